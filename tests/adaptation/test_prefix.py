"""Prefix tuning: keys and values of real tokens must act as those tokens."""

import pytest
import torch

from llmbook.adaptation import PrefixTuned
from llmbook.inference import generate
from tests.adaptation.helpers import LLAMA, backward, lm, logits, with_gradient
from tests.model.helpers import random_ids

PREFIX = [5, 9, 2]


def prefixed(**overrides) -> PrefixTuned:
    return PrefixTuned(lm(**overrides), n_tokens=3, init_ids=PREFIX)


@pytest.mark.parametrize("kind", [{"max_seq_len": 12}, {**LLAMA, "max_seq_len": 12}], ids=["gpt2", "llama"])
def test_generating_behind_a_prefix_is_generating_behind_its_words(kind):
    """Catches a generation loop that counts the prefix as text, or runs past the context it leaves."""
    model, ids = prefixed(**kind), random_ids(2, 4)
    words = torch.tensor(PREFIX).expand(2, -1)
    expected = generate(model.model, torch.cat([words, ids], dim=1), max_new_tokens=5, temperature=0)
    for use_cache in (True, False):
        assert torch.equal(generate(model, ids, max_new_tokens=5, temperature=0, use_cache=use_cache), expected[:, 3:])


def test_gradients_reach_every_part_of_the_prefix_and_nothing_else():
    """Catches a model that trains along, and keys that are copied into memory, where gradients end."""
    model = prefixed()
    backward(model)
    assert with_gradient(model) == {"keys", "values"} == {n for n, p in model.named_parameters() if p.requires_grad}
    assert model.num_parameters() == model.model.num_parameters() + 2 * 2 * 3 * 16  # 2 layers, K and V, 3 positions
    assert model.keys.grad.abs().sum(-1).gt(0).all()
    assert model.values.grad.abs().sum(-1).gt(0).all()


def test_the_gradient_is_the_slope_of_the_loss():
    """Catches a prefix that is detached in some layer."""
    model, ids = prefixed(**LLAMA).double(), random_ids(2, 7)

    def loss():
        return -model(ids).logits.log_softmax(-1)[..., 4].sum()

    loss().backward()
    step = 1e-5 * torch.randn(model.keys.shape, dtype=torch.float64)
    slope = (model.keys.grad * step).sum()
    with torch.no_grad():
        model.keys += step / 2
        above = loss()
        model.keys -= step
        torch.testing.assert_close(above - loss(), slope, rtol=1e-5, atol=0)


def test_a_network_makes_the_prefix_and_can_be_dropped():
    """Catches a network that does not learn, or a prefix that changes when the network goes."""
    model = PrefixTuned(lm(**LLAMA), n_tokens=3, d_reparametrise=6)
    backward(model)
    learned = {"maker.table", *(f"maker.network.{i}.{p}" for i in (0, 2) for p in ("weight", "bias"))}
    assert with_gradient(model) == learned
    keys, values = model.prefix()
    row = model.maker.network(model.maker.table)[2]  # what the last position's row becomes
    torch.testing.assert_close(torch.stack([keys[:, :, 2], values[:, :, 2]]).flatten(), row)
    before = logits(model)
    model.drop_reparametrisation()
    assert torch.equal(logits(model), before)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"keys", "values"}
    assert not any("maker" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="nothing to drop"):
        model.drop_reparametrisation()


def test_bad_arguments_are_named():
    """Catches a prefix that leaves no room for text, or two different starts."""
    for arguments, message in (
        ({"n_tokens": 32}, "n_tokens=32"),
        ({"n_tokens": 2, "init_ids": [31]}, "vocabulary 0…30"),
        ({"n_tokens": 2, "d_reparametrise": 0}, "d_reparametrise=0"),
        ({"n_tokens": 2, "init_ids": [3], "d_reparametrise": 8}, "one of the two"),
    ):
        with pytest.raises(ValueError, match=message):
            PrefixTuned(lm(), **arguments)
    with pytest.raises(ValueError, match="sliding_window=4"):
        PrefixTuned(lm(sliding_window=4), n_tokens=2)
    with pytest.raises(ValueError, match="conv_width=4"):
        PrefixTuned(lm(conv_width=4), n_tokens=2)
