"""The models before attention: causal, and reaching exactly as far as they claim."""

import pytest
import torch

from llmbook.model.baselines import LSTMLM, ConvLM
from tests.model.helpers import random_ids, shake


def reach(model, length=12) -> list[int]:
    """Positions whose logits change when the token at position 3 does."""
    ids = random_ids(1, length)
    changed = ids.clone()
    changed[0, 3] = (ids[0, 3] + 1) % 31
    moved = (model(ids).logits - model(changed).logits).abs().amax(-1)[0]
    return [int(t) for t in moved.nonzero()]


@torch.no_grad()
def test_an_lstm_carries_everything_forward():
    """A recurrence that reads backwards, or forgets at once."""
    assert reach(shake(LSTMLM(vocab_size=31, d_model=16, n_layers=2))) == list(range(3, 12))


@torch.no_grad()
@pytest.mark.parametrize(("n_layers", "kernel_size"), [(1, 3), (2, 3), (3, 2)])
def test_a_convolution_reaches_its_receptive_field(n_layers, kernel_size):
    """Padding on the wrong side, or a receptive field that is off by one."""
    model = shake(ConvLM(vocab_size=31, d_model=16, n_layers=n_layers, kernel_size=kernel_size))
    assert reach(model) == list(range(3, 3 + model.receptive_field))


def test_a_kernel_of_one_is_refused():
    """A model that reads only the present, trained for minutes before anyone notices."""
    with pytest.raises(ValueError, match="kernel_size=1"):
        ConvLM(vocab_size=31, d_model=16, kernel_size=1)


@pytest.mark.parametrize("model", [LSTMLM(vocab_size=31, d_model=8), ConvLM(vocab_size=31, d_model=8)])
def test_padding_is_refused(model):
    """Padding read as text in silence."""
    with pytest.raises(ValueError, match="cut sequences"):
        model(random_ids(1, 4), attention_mask=torch.ones(1, 4, dtype=torch.long))
