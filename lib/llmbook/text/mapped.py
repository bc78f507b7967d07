"""Batches changed on their way to the model: tokens hidden, spans cut out, an order drawn.

The choice: what is drawn for batch number k is a pure function of (seed, k), as the windows of ``LMBatches`` are. The
same batch is therefore hidden in another way at every pass, and a run that was killed and resumed sees exactly the
corruption it would have seen. Losses draw nothing.
"""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from torch import Tensor

from llmbook.text.numbered import BatchStream, numbered_generator, require_at_least, require_same

Change = Callable[[dict[str, Tensor], np.random.Generator], dict[str, Tensor]]


class MappedBatches:
    """``change(batch, generator)`` of every batch, with a generator of its own for each.

    ``batches`` is an endless iterator with ``state_dict``, such as ``LMBatches``; ``change`` for instance
    ``MaskTokens(...)`` or ``CorruptSpans(...)``, which draw from nothing but the generator they are given. Raises
    ValueError for a negative ``seed``.
    """

    def __init__(self, batches: BatchStream, change: Change, *, seed: int = 0):
        require_at_least(0, seed=seed)
        self.batches, self.change, self.seed = batches, change, seed
        self.step = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Tensor]:
        batch = self.change(next(self.batches), numbered_generator("mapped", self.seed, self.step))
        self.step += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "seed": self.seed, "batches": self.batches.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken. Raises ValueError if it belongs to another seed or other batches."""
        require_same(state, {"seed": self.seed})
        self.batches.load_state_dict(state["batches"])
        self.step = state["step"]
