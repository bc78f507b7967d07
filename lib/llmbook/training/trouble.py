"""What can go wrong in the middle of a run, in words that say what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmbook.training.parallel import find_checkpoint


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says at which step, why, and what to try."""


def diverged(what: str, *, folder: Path | None, clip_norm: float | None) -> TrainingError:
    """The error for a number that is no longer finite: ``what`` it is, the last good checkpoint, and what to try."""
    last = None if folder is None else find_checkpoint(folder, "last")
    kept = f"the last good checkpoint is {last}" if last else "no checkpoint was kept"
    return TrainingError(
        f"{what}: training has diverged; {kept}. Try a lower lr, more warmup_steps or a smaller clip_norm "
        f"(now {clip_norm})"
    )


@contextmanager
def memory_advice(where: Callable[[], str]) -> Iterator[None]:
    """Inside, an allocator's complaint becomes a TrainingError that says ``where`` it was and which dials to turn."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        signs = ("out of memory", "can't allocate memory")
        if not isinstance(error, MemoryError) and not any(sign in str(error).lower() for sign in signs):
            raise
        raise TrainingError(
            f"out of memory {where()}: halve batch_size and double accumulation_steps (the gradient stays the same), "
            "shorten seq_len, or make the model smaller"
        ) from error
