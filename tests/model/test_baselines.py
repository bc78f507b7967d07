"""The models before attention: causal, and reaching exactly as far as they claim."""

import pytest
import torch

from llmbook.inference import generate
from llmbook.model.baselines import LSTMLM, BengioLM, ConvLM, NGramLM
from tests.model.helpers import random_ids, shake


def reach(model, length=12) -> list[int]:
    """Positions whose logits change when the token at position 3 does."""
    ids = random_ids(1, length)
    changed = ids.clone()
    changed[0, 3] = (ids[0, 3] + 1) % 31
    moved = (model(ids).logits - model(changed).logits).abs().amax(-1)[0]
    return [int(t) for t in moved.nonzero()]


def counting() -> NGramLM:
    """Order 4, on a text short enough that changing one token leads to another context everywhere."""
    return NGramLM.count(random_ids(1, 3000)[0], order=4, vocab_size=31)


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


@torch.no_grad()
@pytest.mark.parametrize("context_len", [1, 2, 5])
@pytest.mark.parametrize("direct", [False, True])
def test_bengios_window_is_the_last_tokens(context_len, direct):
    """A window that reads the token it predicts, or is one shorter or longer than it says."""
    model = shake(BengioLM(vocab_size=31, d_model=8, context_len=context_len, d_hidden=16, direct=direct))
    assert reach(model) == list(range(3, 3 + context_len))


def test_no_gradient_comes_from_the_future():
    """A leak too small to see in the logits: the derivative of each position by later vectors is exactly 0."""
    for make in (LSTMLM, ConvLM, BengioLM):
        model = shake(make(vocab_size=31, d_model=8))
        ids = torch.arange(9)[None]
        grads = torch.autograd.grad(model(ids).logits[0, 4].sum(), model.tokens.weight)[0][:9]
        assert (grads[5:] == 0).all()
        assert (grads[2:5] != 0).any(dim=1).all()


@torch.no_grad()
def test_bengios_net_is_its_formula():
    """A tanh around the wrong sum, direct connections inside it, and vectors in reverse order."""
    model = shake(BengioLM(vocab_size=31, d_model=4, context_len=3, d_hidden=6, direct=True))
    ids = random_ids(1, 5)
    vectors = model.tokens.weight[ids[0]]
    x = torch.cat((vectors[2], vectors[3], vectors[4]))
    hidden = torch.tanh(model.hidden.bias + model.hidden.weight @ x)
    logits = model.lm_head.bias + model.direct.weight @ x + model.lm_head.weight @ hidden
    torch.testing.assert_close(model(ids).logits[0, 4], logits, atol=1e-5, rtol=1e-5)
    x = torch.cat((torch.zeros(8), vectors[0]))  # before the text stand zeros
    hidden = torch.tanh(model.hidden.bias + model.hidden.weight @ x)
    logits = model.lm_head.bias + model.direct.weight @ x + model.lm_head.weight @ hidden
    torch.testing.assert_close(model(ids).logits[0, 0], logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [ConvLM, BengioLM])
def test_a_window_of_nothing_is_refused(make):
    """A model that reads only the present, or nothing, trained for minutes before anyone notices."""
    with pytest.raises(ValueError, match="kernel_size=1" if make is ConvLM else "context_len=0"):
        make(vocab_size=31, d_model=16, **({"kernel_size": 1} if make is ConvLM else {"context_len": 0}))


@pytest.mark.parametrize("make", [LSTMLM, ConvLM, BengioLM, lambda **sizes: counting()])
def test_padding_is_refused(make):
    """Padding read as text in silence."""
    with pytest.raises(ValueError, match="cut sequences"):
        make(vocab_size=31, d_model=8)(random_ids(1, 4), attention_mask=torch.ones(1, 4, dtype=torch.long))


@pytest.mark.parametrize("make", [LSTMLM, ConvLM, BengioLM, lambda **sizes: counting()])
def test_what_is_cut_from_the_context_does_not_matter(make):
    """A max_seq_len below what the model reads: generation, which keeps no more, would change the text."""
    model = make(vocab_size=31, d_model=8).eval()
    start, limit = random_ids(2, 12), model.config.max_seq_len
    with torch.no_grad():
        torch.testing.assert_close(model(start).logits[:, -1], model(start[:, -limit:]).logits[:, -1])
    draws = [
        generate(model, start, max_new_tokens=4, use_cache=False, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    ]
    assert draws[0].shape == (2, 16)
    assert torch.equal(*draws)
    assert model.config.to_dict()["vocab_size"] == 31
