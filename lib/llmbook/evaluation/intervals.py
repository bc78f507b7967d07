r"""Intervals: what a number measured on n examples may be on others.

An accuracy on 200 sentences says less than it seems. The percentile bootstrap
(https://doi.org/10.1214/aos/1176344552) draws the examples again, with replacement, and takes the middle of what the
measure then is. Two systems are compared on the *same* drawn examples: they err together, and the difference between
them is known better than either.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """A measured ``value`` and the ends of its interval; printed as ``0.43 (0.30 to 0.60)``."""

    value: float
    low: float
    high: float

    def __contains__(self, other: float) -> bool:
        return self.low <= other <= self.high

    def __format__(self, spec: str) -> str:
        return "{:{s}} ({:{s}} to {:{s}})".format(self.value, self.low, self.high, s=spec or ".2f")

    def __str__(self) -> str:
        return format(self)


def proportion(n_right: int, n: int, *, level: float = 0.95) -> Interval:
    r"""The share ``n_right`` of ``n`` with Wilson's interval (https://doi.org/10.1080/01621459.1927.10502953).

    $$\frac{\hat p + z^2/2n \pm z\sqrt{\hat p(1-\hat p)/n + z^2/4n^2}}{1 + z^2/n}$$

    It stays within 0 and 1, and is honest for few examples and for shares near the ends.

    Raises:
        ValueError: ``n_right`` lies outside of 0 … n, there is no example, or ``level`` is no share.
    """
    if n < 1 or not 0 <= n_right <= n:
        raise ValueError(f"n_right={n_right} of n={n}: give a number of examples, and how many of them")
    z = NormalDist().inv_cdf((1 + _share(level)) / 2)
    p = n_right / n
    middle, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(p, min(p, max(0.0, (middle - width) / scale)), max(p, min(1.0, (middle + width) / scale)))


def bootstrap(
    *samples: Tensor,
    measure: Callable[..., Tensor | float] = torch.mean,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """``measure`` of the samples, and where it lies when the examples are drawn again.

    Args:
        samples: tensors with one row for each example. All are drawn together, row i of one with row i of the others,
            so that predictions stay with their labels.
        measure: a function of the samples that returns one number.
        n_resamples: how often the examples are drawn.

    Raises:
        ValueError: no sample, samples of different lengths, one without examples, a measure that is no number, or
            ``level`` is no share.
    """
    n = _rows(samples)
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples}: draw at least once")
    tail = (1 - _share(level)) / 2
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(n_resamples, dtype=torch.float64)
    for i in range(n_resamples):
        rows = torch.randint(n, (n,), generator=generator)
        found[i] = float(measure(*(sample[rows] for sample in samples)))
    if found.isnan().any():
        raise ValueError("the measure of some drawn examples is nan: too few of a class, perhaps; give more examples")
    low, high = found.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(float(measure(*samples)), low, high)


def compare(first: Tensor, second: Tensor, **options) -> Interval:
    """By how much ``first`` lies above ``second`` on average, on the same examples; the options are ``bootstrap``'s.

    The difference is settled at this level if 0 lies outside. Raises ValueError as ``bootstrap`` does.
    """
    return bootstrap(first.double(), second.double(), measure=lambda a, b: (a - b).mean(), **options)


def _share(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level} is no share between 0 and 1, such as 0.95")
    return level


def _rows(samples: tuple[Tensor, ...]) -> int:
    """How many examples there are. Raises ValueError for none, and for samples that do not belong together."""
    lengths = [len(sample) for sample in samples]
    if not lengths or len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(f"samples of {lengths} examples: give tensors of one length, with a row for each example")
    return lengths[0]
