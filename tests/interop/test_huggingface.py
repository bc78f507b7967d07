"""The same weights under both names give the same numbers: outputs and gradients, at a random start of std 0.2."""

import pytest
import torch
import transformers

from llmbook.interop import config_from_huggingface, from_huggingface, to_huggingface
from llmbook.model import DecoderLM, Encoder
from tests.model.helpers import random_ids, shake

MODELS = {
    "gpt2": transformers.GPT2Config(vocab_size=31, n_positions=32, n_embd=24, n_layer=3, n_head=4),
    "llama": transformers.LlamaConfig(
        vocab_size=31, max_position_embeddings=32, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=40,
    ),
    "bert": transformers.BertConfig(
        vocab_size=31, max_position_embeddings=32, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=40,
    ),
}  # fmt: skip
THEIRS = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "bert": "BertModel"}


def pair(family: str):
    """Their model with random weights, and ours with the same."""
    config = MODELS[family]
    theirs = shake(getattr(transformers, THEIRS[family])(config))
    ours_config = config_from_huggingface(config.to_dict())
    ours = (Encoder if family == "bert" else DecoderLM)(ours_config).eval()
    ours.load_state_dict(from_huggingface(theirs.state_dict(), family, n_layers=3))
    return ours, theirs


def scores(output):
    return output.last_hidden_state if getattr(output, "logits", None) is None else output.logits


@pytest.mark.parametrize("family", MODELS)
def test_same_outputs_and_gradients(family):
    """Any difference in architecture, layout or naming, in a forward or a backward pass."""
    ours, theirs = pair(family)
    ids = random_ids(2, 12)
    a, b = scores(ours(ids)), scores(theirs(ids))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    a.square().mean().backward()
    b.square().mean().backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in theirs.named_parameters()}
    expected = from_huggingface(gradients, family, n_layers=3)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("family", MODELS)
def test_padding_is_ignored_alike(family):
    """A padding mask with another meaning than theirs."""
    ours, theirs = pair(family)
    ids, mask = random_ids(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[0, :3] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    a = scores(ours(ids, attention_mask=mask))
    b = scores(theirs(ids, attention_mask=mask, position_ids=positions))
    torch.testing.assert_close(a[mask.bool()], b[mask.bool()], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", MODELS)
def test_there_and_back(family):
    """A name or a transposition that is not undone."""
    _, theirs = pair(family)
    weights = theirs.state_dict()
    back = to_huggingface(from_huggingface(weights, family, n_layers=3), family, n_layers=3)
    for name, tensor in back.items():
        assert torch.equal(tensor, weights[name]), name


def test_foreign_weights_are_refused_by_name():
    """A checkpoint of another model loaded in part."""
    weights = MODELS["gpt2"] and pair("gpt2")[1].state_dict()
    with pytest.raises(ValueError, match=r"not the weights of a llama model.*model\.embed_tokens"):
        from_huggingface(weights, "llama", n_layers=3)
    with pytest.raises(ValueError, match="mamba"):
        config_from_huggingface({"model_type": "mamba"})
    with pytest.raises(ValueError, match="relu"):
        config_from_huggingface({"model_type": "bert", "hidden_act": "relu"})
