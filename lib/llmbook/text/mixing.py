r"""Batches of several tasks in one stream, each task as often as its size says.

The rule is that of T5 (https://arxiv.org/abs/1910.10683, §3.5.2). A task with $e_n$ examples is drawn with probability

$$r_n = \frac{\min(e_n, K)^{1/T}}{\sum_m \min(e_m, K)^{1/T}}$$

At temperature T = 1 every example is seen equally often; the limit K keeps one huge task from crowding out the rest;
as T grows, all tasks come equally often.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from torch import Tensor

from llmbook.text.numbered import BatchStream, numbered_generator, require_at_least, require_same


def mixing_proportions(
    sizes: Mapping[str, int], *, limit: int | None = None, temperature: float = 1.0
) -> dict[str, float]:
    """How often each task is drawn, given how many examples it has: r_n above, with K = ``limit``.

    Raises ValueError for a task without examples, a ``temperature`` that is not positive and a ``limit`` below 1.
    """
    if not sizes or min(sizes.values()) < 1:
        raise ValueError(f"sizes={dict(sizes)}: every task needs at least one example")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: must be positive; 1 is proportional, large is equal")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: must be at least 1, or None for no limit")
    weights = {name: (size if limit is None else min(size, limit)) ** (1 / temperature) for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


class MixedBatches:
    """An endless iterator that draws a task for every batch and says which under ``"task"`` (see ``ByTask``).

    sources: an endless iterator with ``state_dict`` for each task. proportions: how often each is drawn, summing to 1.
    Which task batch number k belongs to is a pure function of (seed, k). Raises ValueError unless both name the same
    tasks and the proportions are not negative and sum to 1.
    """

    def __init__(self, sources: Mapping[str, BatchStream], proportions: Mapping[str, float], *, seed: int = 0):
        if set(sources) != set(proportions):
            raise ValueError(f"sources {sorted(sources)} and proportions {sorted(proportions)} must name the same")
        if not (abs(sum(proportions.values()) - 1) <= 1e-6 and min(proportions.values()) >= 0):  # nan is refused, too
            raise ValueError(f"proportions={dict(proportions)} must not be negative and sum to 1")
        require_at_least(0, seed=seed)
        self.sources, self.seed, self.step = dict(sources), seed, 0
        self.proportions = {name: float(proportions[name]) for name in sources}

    def task(self, step: int) -> str:
        """The task of batch number ``step``."""
        number = numbered_generator("mixture", self.seed, step).random()
        bounds = np.cumsum(list(self.proportions.values()))[:-1]  # without the last, which may round to below 1
        return list(self.sources)[int(np.searchsorted(bounds, number, side="right"))]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Tensor | str]:
        task = self.task(self.step)
        batch: dict[str, Tensor | str] = {**next(self.sources[task]), "task": task}
        self.step += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seed": self.seed,
            "proportions": self.proportions,
            "sources": {name: source.state_dict() for name, source in self.sources.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken. Raises ValueError if it belongs to another mixture."""
        require_same(state, {"seed": self.seed, "proportions": self.proportions})
        for name, source in self.sources.items():
            source.load_state_dict(state["sources"][name])
        self.step = state["step"]
