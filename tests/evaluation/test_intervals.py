"""Intervals that hold what they promise, and those of the textbook."""

import math

import pytest
import torch

from llmbook.evaluation import Interval, bootstrap, compare, proportion, ranking


@pytest.mark.parametrize(("n_right", "n"), [(0, 10), (3, 10), (81, 263), (10, 10)])
def test_wilson_solves_the_equation_that_defines_it(n_right, n):
    """Catches a slip in the formula: the ends are where the observed share lies z standard errors away."""
    found, z, p = proportion(n_right, n), 1.959963984540054, n_right / n
    for end in (found.low, found.high):
        assert (p - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)
    assert 0 <= found.low <= p <= found.high <= 1
    assert p in found


def covered(interval_of, truth, n_trials=400):
    return sum(truth in interval_of(torch.Generator().manual_seed(trial)) for trial in range(n_trials)) / n_trials


def test_a_bootstrap_interval_holds_the_truth_about_as_often_as_it_says():
    """Catches tails of the wrong size, examples drawn without replacement, and a spread that lacks the root of n."""

    def draw(generator):
        return bootstrap(torch.randn(60, generator=generator) + 3, n_resamples=200, level=0.9)

    assert 0.84 <= covered(draw, 3.0) <= 0.96


def test_systems_are_compared_on_the_same_examples():
    """Catches two samples drawn apart: what both get wrong together would then count as uncertainty."""
    generator = torch.Generator().manual_seed(0)
    hard = torch.randn(300, generator=generator) * 5
    first, second = hard + 0.2 + torch.randn(300, generator=generator) * 0.1, hard
    found = compare(first, second)
    assert found.low > 0.15
    assert found.high < 0.25
    assert bootstrap(first).high - bootstrap(first).low > 5 * (found.high - found.low)
    assert 0 in compare(second + torch.randn(300, generator=generator), second, seed=1)


def test_samples_are_drawn_together():
    """Catches labels drawn apart from their predictions."""
    x = torch.arange(50.0)
    found = bootstrap(x, 2 * x, measure=lambda a, b: (b - 2 * a).abs().max())
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_same_seed_draws_the_same_examples():
    """Catches an interval that another run prints otherwise."""
    x = torch.randn(20)
    assert bootstrap(x) == bootstrap(x) != bootstrap(x, seed=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap(), r"samples of \[\]"),
        (lambda: bootstrap(torch.ones(0)), r"samples of \[0\]"),
        (lambda: bootstrap(torch.ones(3), torch.ones(2)), r"samples of \[3, 2\]"),
        (lambda: bootstrap(torch.ones(3), level=95), "level=95 is no share"),
        (lambda: bootstrap(torch.ones(3), n_resamples=0), "n_resamples=0"),
        (lambda: bootstrap(torch.ones(3), measure=lambda x: math.nan), "is nan"),
        (lambda: proportion(4, 3), "n_right=4 of n=3"),
        (lambda: proportion(0, 0), "n_right=0 of n=0"),
    ],
)
def test_nonsense_is_refused(call, message):
    """Catches an interval made of nothing."""
    with pytest.raises(ValueError, match=message):
        call()


def test_how_an_interval_reads():
    """Catches a page that prints a class where a number should stand."""
    assert str(Interval(0.4321, 0.3, 0.6)) == "0.43 (0.30 to 0.60)"
    assert f"{Interval(0.4321, 0.3, 0.6):.3f}" == "0.432 (0.300 to 0.600)"


def test_ranking_counts_pairs():
    """Catches ties that count wholly or not at all, and ranks of the wrong class."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores = torch.randint(6, (40,), generator=generator).float()
        positive = torch.rand(40, generator=generator) < 0.4
        gaps = scores[positive][:, None] - scores[~positive][None]
        assert ranking(scores, positive) == pytest.approx(
            ((gaps > 0).double() + (gaps == 0).double() / 2).mean().item()
        )
        assert ranking(scores.exp(), positive) == pytest.approx(ranking(scores, positive))
    assert math.isnan(ranking(torch.ones(3), torch.ones(3, dtype=torch.bool)))
