"""Streams of batches with numbers: batch number k is a pure function of a seed and of k.

There is then no state but k. A run that was killed and resumed sees exactly the batches it would have seen, and any
batch can be looked at by itself.
"""

from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor

# Entropy beside (seed, k), so that draws with the same seed, the windows' and their corruption's, are independent.
STREAMS = {"mapped": 1, "pairs": 2, "mixture": 3, "epochs": 4}


@runtime_checkable
class Positioned(Protocol):
    """What can say where it is, and return there."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class BatchStream(Positioned, Protocol):
    """An endless iterator over batches that knows its position."""

    def __iter__(self) -> Self: ...

    def __next__(self) -> dict[str, Any]: ...


class NumberedBatches:
    """An endless iterator over ``batch(0)``, ``batch(1)``, …; a subclass defines ``batch`` and ``identity``.

    Both raise NotImplementedError until then.
    """

    step = 0  # the number of the next batch

    def batch(self, step: int) -> dict[str, Tensor]:
        """Batch number ``step``, whatever has been drawn before."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """The sizes and the seed that decide what the batches are, as far as one can compare them."""
        raise NotImplementedError

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Tensor]:
        batch = self.batch(self.step)
        self.step += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The number of the next batch, and what it is counted in."""
        return {"step": self.step, **self.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken. Raises ValueError if it belongs to other sizes, data or seed."""
        require_same(state, self.identity())
        self.step = state["step"]


def numbered_generator(stream: str, seed: int, step: int) -> np.random.Generator:
    """The random numbers of batch number ``step`` in one of ``STREAMS``."""
    return np.random.default_rng([seed, step, STREAMS[stream]])


def require_same(state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raise ValueError naming the first value in which a saved state differs from what is to go on from it."""
    for name, value in identity.items():
        if state.get(name) != value:
            raise ValueError(
                f"this state was saved with {name}={state.get(name)}, but these batches have {name}={value}: "
                "resume with the settings of the interrupted run"
            )


def require_at_least(least: int, **values: int) -> None:
    """Raise ValueError naming the first value that is no whole number, or below ``least``."""
    for name, value in values.items():
        if not isinstance(value, int | np.integer):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
