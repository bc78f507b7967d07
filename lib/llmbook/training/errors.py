"""What can go wrong in the middle of a run, with errors that say what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmbook.training.parallel import find_checkpoint

MOST_TARGETLESS = 100  # steps in a row


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says at which step, why, and what to try."""


# What to change when memory runs out in a training step, and in an evaluation.
LEARNING = (
    "halve batch_size and double accumulation_steps (the gradient stays the same), shorten seq_len, or make the model "
    "smaller"
)
EVALUATING = "give validation batches of fewer rows (the loss stays the same) or shorter ones"


def diverged(what: str, *, lr: float | None, folder: Path | None, clip_norm: float | None) -> TrainingError:
    """The error for a number that is no longer finite: ``what`` it is, the last good checkpoint, and what to try.

    The run cannot be resumed with other hyper-parameters: it would be neither the old run nor a new one. A new run can
    begin with its weights. ``lr`` is the learning rate of the last update, None before the first.
    """
    if lr is None:
        return TrainingError(
            f"{what}, before the first update, so no hyper-parameter is to blame. Look at the weights the run begins "
            "with, the validation batches and the objective"
        )
    milder = f"a lower lr, more warmup_steps or a smaller clip_norm (now {clip_norm})"
    last = None if folder is None else find_checkpoint(folder, "last")
    if last is None:
        remedy = f"no checkpoint was kept. Start again with {milder}"
    else:
        path = repr(str(last))
        whole, sharded = f"restore_model(model, load_checkpoint({path}).model)", f"load_sharded(Path({path}), model)"
        load = sharded if last.is_dir() else whole
        remedy = (
            f"the last good checkpoint is {last}. This run cannot be resumed with other hyper-parameters; begin a new "
            f"one in another folder with its weights, {load}, and {milder}"
        )
    return TrainingError(f"{what} with learning rate {lr:.3g}: training has diverged; {remedy}")


@contextmanager
def memory_advice(where: Callable[[], str], advice: str = LEARNING) -> Iterator[None]:
    """Inside, running out of memory becomes a TrainingError that says ``where``, and what to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        signs = ("out of memory", "can't allocate memory")
        known = isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)
        if isinstance(error, TrainingError) or not known:  # the first: said already, further inside
            raise
        raise TrainingError(f"out of memory {where()}: {advice}") from error


def require_targets(n_targets: float, step: int, before: int, *, n_steps: int) -> int:
    """How many steps in a row, up to this one, had no target token; ``before`` of them came before it.

    It happens that a small batch of a masked language model hides no token. It does not happen a hundred times in a
    row, or in all of a run's ``n_steps``: then TrainingError is raised.
    """
    in_a_row = before + 1 if n_targets == 0 else 0
    if in_a_row >= min(MOST_TARGETLESS, n_steps):
        raise TrainingError(
            f"the {in_a_row} steps up to step {step} have no target token: every label of their batches is -100"
        )
    return in_a_row
