"""Some of many, in turns: what is too much for every run of CI, and is reached within a few."""

from collections.abc import Sequence
from datetime import date
from typing import TypeVar

Item = TypeVar("Item")


def share(names: Sequence[Item], count: int, turn: int) -> list[Item]:
    """``count`` of ``names``, others at every turn: after ``len(names) / count`` turns in a row, each has had one.

    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count={count}: take at least one at a turn")
    first = turn * count
    return [names[(first + i) % len(names)] for i in range(min(count, len(names)))]


def today() -> int:
    """A turn that is the next one tomorrow."""
    return date.today().toordinal()
