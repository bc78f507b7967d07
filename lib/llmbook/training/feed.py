"""Between the loop and the device: batches on their way there, and losses that stay there until they are read."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from llmbook.training.errors import TrainingError, diverged, require_targets
from llmbook.training.objectives import Batch
from llmbook.training.parallel import Parallel
from llmbook.training.state import RunState
from llmbook.training.step import StepResult


class Feed:
    """This process's rows of the run's batches, on its device; the last shape is kept for errors of memory."""

    def __init__(self, state: RunState, parallel: Parallel):
        self.state, self.parallel = state, parallel
        self._last_shape: tuple[int, ...] | None = None
        self.rewind()

    def rewind(self) -> None:
        """Read on from where the batches stand now."""
        self._iterator: Iterator[Batch] = iter(self.state.batches)

    def next(self) -> Batch:
        """The next micro-batch. Raises TrainingError where the batches end before the run."""
        try:
            batch = self.parallel.rows(next(self._iterator))
        except StopIteration:
            raise TrainingError(
                f"the batches ended at step {self.state.step + 1} of {self.state.config.steps}: give an endless "
                "iterator (LMBatches is one) or fewer steps"
            ) from None
        return self.state.runtime.to_device(self.noted(batch))

    def noted(self, batch: Batch) -> Batch:
        """The batch as it is; its shape is what ``where`` names."""
        self._last_shape = next((tuple(value.shape) for value in batch.values() if hasattr(value, "shape")), None)
        return batch

    def where(self, when: str = "", batches: str = "micro-batches") -> str:
        """In words: the device, the moment (by default the step being taken) and the shape of the last batch."""
        shape = f" with {batches} of shape {self._last_shape}" if self._last_shape else ""
        return f"on {self.state.runtime.device} {when or f'at step {self.state.step + 1}'}{shape}"


@dataclass
class Unread:
    """Steps whose losses are still on the device: reading one would wait for it."""

    steps: list[tuple[int, float, float, StepResult]] = field(default_factory=list)
    targetless: int = 0  # steps in a row without a target, up to the last one read

    def add(self, step: int, lr: float, seconds: float, result: StepResult) -> None:
        self.steps.append((step, lr, seconds, result))

    def read_into(self, state: RunState, clock: float) -> bool:
        """Wait for the device, check the losses and add them to the history; False if there is nothing to read.

        ``clock`` is the time from which the seconds of the history are counted.

        Raises:
            TrainingError: a loss or gradient is not finite, or no step has a target.
        """
        if not self.steps:
            return False
        unread, self.steps = self.steps, []
        results = zip(*(result for *_, result in unread), strict=True)
        losses, n_targets, norms = (torch.stack(column).tolist() for column in results)
        now = time.perf_counter() - clock
        for (step, lr, seconds, _), loss, n, norm in zip(unread, losses, n_targets, norms, strict=True):
            overflowed = state.scaler.is_enabled() and not math.isfinite(norm)  # its step was skipped: no harm
            self.targetless = require_targets(n, step, self.targetless, n_steps=state.config.steps)
            if n == 0:
                continue  # nothing has moved, and there is no loss
            if not math.isfinite(loss) or not (math.isfinite(norm) or overflowed):
                raise stopped_by(state, f"loss {loss}, gradient norm {norm} at step {step}", lr)
            norm = 0.0 if overflowed else norm
            seconds = now if step == state.step else seconds  # the last step's includes the wait for the device
            state.history.add(step, loss, lr=lr, grad_norm=norm, n_targets=int(n), seconds=seconds)
        return True


def stopped_by(state: RunState, what: str, lr: float | None = None) -> TrainingError:
    """The error for ``what`` is not finite, at the learning rate ``lr`` (by default the last)."""
    lr = state.history.lr[-1] if lr is None and state.step else lr
    return diverged(what, lr=lr, folder=state.folder, clip_norm=state.config.clip_norm)
