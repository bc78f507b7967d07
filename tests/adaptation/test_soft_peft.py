"""Prompt tuning and prefix tuning as the library PEFT has them, on its side of the same model."""

import pytest
import torch

from llmbook.adaptation import PrefixTuned, PromptTuned
from tests.interop.test_huggingface import pair
from tests.model.helpers import random_ids

peft = pytest.importorskip("peft", reason="peft is not installed; the identities are tested without it")
IDS = random_ids(2, 9)
P = 3


def close(ours, theirs, learned) -> None:
    """Logits behind the prefix are those of PEFT, and so are the gradients of what is learned."""
    got, expected = ours(IDS).logits, theirs(input_ids=IDS).logits[:, -IDS.shape[1] :]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (expected - ours.model(IDS).logits).abs().max() > 1e-2
    got.square().mean().backward()
    expected.square().mean().backward()
    for mine, other in learned():
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
        assert other.abs().max() > 1e-4


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_prompt_is_peft_s(family):
    """Catches a prompt at other positions (learned ones begin with it), and its logits taken for the text's."""
    ours, theirs = pair(family)
    ours, config = PromptTuned(ours, n_tokens=P), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P)
    theirs = peft.get_peft_model(theirs, config).eval()
    table = theirs.prompt_encoder.default.embedding.weight
    with torch.no_grad():
        ours.prompt.normal_(0, 0.5)
        table.copy_(ours.prompt)
    close(ours, theirs, lambda: [(ours.prompt.grad, table.grad)])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_prefix_is_peft_s(family):
    """Catches keys and values changed over, layers or heads in another order, keys that are rotated once more, and
    text whose positions do not begin behind the prefix."""
    ours, theirs = pair(family)
    ours, config = PrefixTuned(ours, n_tokens=P), peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P)
    theirs = peft.get_peft_model(theirs, config).eval()
    table = theirs.prompt_encoder.default.embedding.weight  # [P, L · 2 · Hk · D]
    with torch.no_grad():
        ours.keys.normal_(0, 0.5)
        ours.values.normal_(0, 0.5)
        table.copy_(flat(ours.keys, ours.values))
    close(ours, theirs, lambda: [(flat(ours.keys.grad, ours.values.grad), table.grad)])


def flat(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Two of [L, Hk, P, D] as PEFT lays them out: a row for each token, layer by layer keys, then values."""
    return torch.stack([keys, values], 1).movedim(3, 0).flatten(1)  # [P, L, 2, Hk, D]
