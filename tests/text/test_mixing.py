"""A mixture of tasks: the shares of T5's formula, and the same sequence of tasks after a resume."""

import math
from collections import Counter

import pytest
import torch

from llmbook.text import LMBatches, MixedBatches, mixing_proportions

SIZES = {"a": 1000, "b": 100, "c": 100_000}


def test_proportions_by_hand():
    """Catches a limit applied after the temperature, a temperature in place of its inverse, and a missing sum."""
    assert mixing_proportions(SIZES) == pytest.approx({"a": 1000 / 101_100, "b": 100 / 101_100, "c": 100_000 / 101_100})
    assert mixing_proportions(SIZES, limit=1000) == pytest.approx({"a": 1000 / 2100, "b": 100 / 2100, "c": 1000 / 2100})
    root = {name: math.sqrt(min(size, 10_000)) for name, size in SIZES.items()}
    expected = {name: value / sum(root.values()) for name, value in root.items()}
    assert mixing_proportions(SIZES, limit=10_000, temperature=2) == pytest.approx(expected)
    assert mixing_proportions(SIZES, temperature=1e9) == pytest.approx(dict.fromkeys(SIZES, 1 / 3))


def mixture(seed=0, proportions=None):
    sources = {
        name: LMBatches([first, first + 1, first + 2, first + 3], batch_size=2, seq_len=2)
        for name, first in (("a", 0), ("b", 10), ("c", 20))
    }
    return MixedBatches(sources, proportions or {"c": 0.5, "a": 0.2, "b": 0.3}, seed=seed)


def test_every_task_comes_as_often_as_its_share():
    """Catches shares matched to tasks in another order: 0.2, 0.3, 0.5 of 4000 within five standard deviations."""
    mixed = mixture()
    counts = Counter(mixed.task(step) for step in range(4000))
    for name, share in {"a": 0.2, "b": 0.3, "c": 0.5}.items():
        assert abs(counts[name] - 4000 * share) < 5 * math.sqrt(4000 * share * (1 - share))


def test_a_batch_says_its_task_and_comes_from_its_source():
    """Catches a label that belongs to another batch, and a source that is advanced without being used."""
    mixed, reference = mixture(), mixture()
    for step in range(20):
        batch = next(mixed)
        assert batch["task"] == reference.task(step)
        assert torch.equal(batch["input_ids"], next(reference.sources[batch["task"]])["input_ids"])
        assert batch["input_ids"].min() >= 10 * "abc".index(batch["task"])


def test_resume_is_exact():
    """Catches a mixture that forgets the position of one of its sources, or its own."""
    whole = [next(stream) for stream in [mixture()] for _ in range(12)]
    interrupted, resumed = mixture(), mixture()
    for _ in range(5):
        next(interrupted)
    resumed.load_state_dict(interrupted.state_dict())
    for batch in whole[5:]:
        again = next(resumed)
        assert again["task"] == batch["task"]
        assert torch.equal(again["input_ids"], batch["input_ids"])
    with pytest.raises(ValueError, match="saved with seed=0, but these batches have seed=3"):
        mixture(seed=3).load_state_dict(interrupted.state_dict())
    with pytest.raises(ValueError, match="proportions"):
        mixture(proportions={"a": 0.4, "b": 0.1, "c": 0.5}).load_state_dict(interrupted.state_dict())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: mixing_proportions({"a": 0}), "every task needs"),
        (lambda: mixing_proportions(SIZES, temperature=0), "temperature=0"),
        (lambda: mixing_proportions(SIZES, temperature=float("nan")), "temperature=nan"),
        (lambda: mixing_proportions(SIZES, limit=0), "limit=0"),
        (lambda: mixture(seed=-1), "seed must be at least 0, got -1"),
        (lambda: mixture(proportions={"a": 0.5, "b": 0.5}), "must name the same"),
        (lambda: mixture(proportions={"a": 0.5, "b": 0.5, "c": 0.5}), "sum to 1"),
        (lambda: mixture(proportions={"a": 0.5, "b": float("nan"), "c": 0.5}), "sum to 1"),
    ],
)
def test_impossible_mixtures_are_named(make, says):
    """Catches a task that never comes because of a misspelt name or a share of nothing."""
    with pytest.raises(ValueError, match=says):
        make()
