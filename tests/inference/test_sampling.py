"""The filters between logits and a draw, against transformers and against their own definitions."""

import pytest
import torch

from llmbook.inference import apply_temperature, keep_top_k, keep_top_p, sample, to_distribution


@pytest.fixture
def logits():
    return torch.randn(16, 50, generator=torch.Generator().manual_seed(3)) * 3


def test_filters_equal_transformers(logits):
    """Catches an off-by-one in either filter: the token that crosses p must stay, the k-th must stay."""
    from transformers.generation.logits_process import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    for k in (1, 2, 7, 49, 50, 500):
        assert torch.equal(keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits)), k
    for p in (0.01, 0.3, 0.5, 0.9, 0.99, 1.0):
        assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits)), p
    for t in (0.1, 0.7, 1.0, 2.5):
        assert torch.equal(apply_temperature(logits, t), TemperatureLogitsWarper(t)(None, logits)), t


def test_all_dials_together_equal_transformers(logits):
    """Catches filters applied in another order: top-p before temperature keeps another set."""
    from transformers.generation.logits_process import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    theirs = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(9)(None, TemperatureLogitsWarper(1.7)(None, logits)))
    ours = to_distribution(logits, temperature=1.7, top_k=9, top_p=0.8)
    torch.testing.assert_close(ours, theirs.softmax(-1), atol=1e-7, rtol=0)


def test_top_p_is_the_smallest_set_that_reaches_p():
    """Catches a set one token too small or too large, on probabilities that can be added by hand."""
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    kept = {p: keep_top_p(logits, p).isfinite()[0].tolist() for p in (0.4, 0.6, 0.8, 0.95)}
    assert kept == {
        0.4: [False, True, False, False],
        0.6: [False, True, False, True],
        0.8: [False, True, True, True],
        0.95: [True, True, True, True],
    }


def test_temperature_zero_is_the_likeliest_token_alone(logits):
    """Catches a division by zero, and two winners where the maximum is tied."""
    logits[0, 3] = logits[0, 8] = 100.0
    probabilities = to_distribution(logits, temperature=0)
    assert torch.equal(probabilities.argmax(-1), logits.argmax(-1))
    assert torch.equal(probabilities.max(-1).values, torch.ones(16))
    assert torch.equal(sample(probabilities)[:, 0], logits.argmax(-1))


def test_temperature_orders_the_entropy(logits):
    """Catches a temperature that multiplies instead of dividing."""

    def entropy(temperature):
        p = to_distribution(logits, temperature=temperature)
        return -torch.xlogy(p, p).sum(-1)

    assert (entropy(0.5) < entropy(1.0)).all()
    assert (entropy(1.0) < entropy(2.0)).all()


def test_draws_follow_the_distribution():
    """Catches sampling from logits or from an unnormalised distribution: 20 000 draws within 4 standard errors."""
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    n = 20_000
    draws = sample(probabilities.expand(n, 4), torch.Generator().manual_seed(0))[:, 0]
    share = torch.bincount(draws, minlength=4) / n
    assert ((share - probabilities).abs() < 4 * (probabilities * (1 - probabilities) / n).sqrt()).all()


@pytest.mark.parametrize(
    ("dial", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("top_k", 0), ("top_p", 0.0), ("top_p", 1.1)],
)
def test_a_dial_out_of_range_is_named(logits, dial, value):
    """Catches a dial that is accepted and then yields NaN or an empty choice."""
    with pytest.raises(ValueError, match=f"{dial}={value}"):
        to_distribution(logits, **{dial: value})
