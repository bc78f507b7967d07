"""What the training loop asks of the processes it shares a run with; here the answers of a process that is alone.

The loop is one for one process and for a thousand: it asks its ``Parallel``. The two engines that answer for
several processes are in ``training.distributed``, and are imported only by who uses them.

Every method is called by all processes together, in the same order: one that stays away leaves the others waiting.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from llmbook.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, restore_model, save_checkpoint
from llmbook.training.config import TrainConfig
from llmbook.training.objectives import Batch
from llmbook.training.runtime import Runtime


class Parallel:
    """One process: every answer is the trivial one."""

    name = "none"
    rank = 0
    world_size = 1

    def check(self, config: TrainConfig, runtime: Runtime) -> None:
        """Raise ValueError for settings that do not work with this engine."""

    def rows(self, batch: Batch) -> Batch:
        """This process's part of a batch. Every process draws the whole batch: the position in the data is then the
        same number for all, and a run can go on with another number of processes."""
        return batch

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model to call in training; its parameters are those of ``model``, perhaps sharded in place."""
        return model

    def micro_batch(self, *, last: bool) -> AbstractContextManager:
        """Around forward and backward of one micro-batch; ``last`` of its step, after which gradients are needed."""
        return nullcontext()

    def sum(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Each number summed over the processes, on its device."""
        return values

    def sum_numbers(self, *values: float) -> tuple[float, ...]:
        """The same for plain numbers."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on at least one process; every process gets the same answer."""
        return flag

    def whole(self, value: Tensor) -> Tensor:
        """A number computed from sharded tensors (a gradient norm) as a plain one, equal on every process."""
        return value

    def share(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
        """The batches this process evaluates, and whether each counts.

        Every process gets as many as the others, because a sharded model computes only if all take part: where they
        do not divide evenly, the last batch is computed once more and not counted.
        """
        n = 0
        batch: Batch = {}
        for n, batch in enumerate(batches, start=1):
            if (n - 1) % self.world_size == self.rank:
                yield batch, True
        if self.rank >= n % self.world_size > 0:
            yield batch, False

    def save(self, path: Path, run: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint: ``run`` and, in it or beside it, the tensors of model and optimiser."""
        save_checkpoint(path, replace(run, model=dict(model.state_dict()), optimizer=optimizer.state_dict()))

    def read(self, path: Path) -> Checkpoint:
        """A checkpoint; of a run of several processes all but the tensors.

        ``rng`` is this process's random state, empty if the run had another number of processes: then each goes on
        with the state it was seeded with. Raises CheckpointError if the checkpoint is missing, damaged or foreign.
        """
        saved = load_checkpoint(path) if path.is_file() else self._sharded().load_run(path)
        states = saved.rng.get("processes", [saved.rng])
        return replace(saved, rng=states[self.rank] if len(states) == self.world_size else {})

    def restore(self, path: Path, run: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the tensors of the checkpoint that ``run`` was read from where they belong.

        Raises CheckpointError if they do not fit the model or its trained parameters.
        """
        if path.is_dir():
            self._sharded().load_sharded(path, model, optimizer)
            return
        restore_model(model, run.model, source=path)
        try:
            optimizer.load_state_dict(run.optimizer)
        except ValueError as error:
            raise CheckpointError(f"{path} trained other parameters ({error}): freeze the same ones") from error

    @staticmethod
    def _sharded():
        from llmbook.training.distributed import checkpoint  # a second of imports that few runs need

        return checkpoint


ALONE = Parallel()


def find_checkpoint(folder: Path, name: str) -> Path | None:
    """The latest ``name.pt`` or ``name-STEP.dcp`` in ``folder``, by one process or several; None if there is none."""
    found = [path for path in (folder / f"{name}.pt", *folder.glob(f"{name}-*.dcp")) if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
