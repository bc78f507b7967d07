"""One order from several: reciprocal rank fusion (https://doi.org/10.1145/1571941.1572114)."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def fuse(*orders: Sequence[Item], k: float = 60.0) -> list[Item]:
    """Items by the sum of 1 / (k + rank) over the orders they stand in, ranks counted from 1.

    Only ranks are used, so searches whose scores cannot be compared may be put together. Ties keep the first order.
    Raises ValueError for ``k`` of -1 or less, and for an item that an order names twice.
    """
    if k <= -1:
        raise ValueError(f"k={k}: the first rank would count for nothing or less; the paper takes 60")
    totals: dict[Item, float] = {}
    for order in orders:
        if len(set(order)) != len(order):
            raise ValueError("an order names an item twice: each has one rank")
        for rank, item in enumerate(order, start=1):
            totals[item] = totals.get(item, 0.0) + 1 / (k + rank)
    return sorted(totals, key=totals.__getitem__, reverse=True)
