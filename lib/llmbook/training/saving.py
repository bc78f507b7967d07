"""The half of a Trainer that outlives its process: what a checkpoint holds, and how a run goes on from one.

The loop itself is in ``loop.py``. It moves this state on and decides when to write it down.
"""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from llmbook.training.checkpoint import Checkpoint, CheckpointError
from llmbook.training.config import TrainConfig
from llmbook.training.history import History
from llmbook.training.muon import Muon
from llmbook.training.objectives import Batch
from llmbook.training.parallel import Parallel, find_checkpoint
from llmbook.training.rng import rng_state, set_rng_state
from llmbook.training.runtime import Runtime, in_words


class Resumable:
    """A run that can be written down and taken up again; its attributes are set and explained by ``Trainer``."""

    model: nn.Module
    batches: Iterable[Batch]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    config: TrainConfig
    runtime: Runtime
    parallel: Parallel
    folder: Path | None
    history: History
    step: int
    _trained_model: nn.Module  # the model as it is called: sharded, compiled or itself
    _iterator: Iterator[Batch]
    _to_be_tuned: bool  # nobody chose how to compute, and a long run is yet to measure it

    def save(self, name: str) -> None:
        """Write a checkpoint of this moment to ``folder/name``; without a folder, nothing."""
        if self.folder is None:
            return
        model_config = getattr(self.model, "config", None)
        run = Checkpoint(
            step=self.step,
            model={},  # the tensors are added by whoever knows where they are
            optimizer={},
            scaler=self.scaler.state_dict(),
            rng=rng_state(),
            data=self.batches.state_dict(),
            history=self.history.to_dict(),
            train_config=self.config.to_dict(),
            model_config=model_config.to_dict() if hasattr(model_config, "to_dict") else None,
            arithmetic={"device": self.runtime.device.type, **self.runtime.choice()},
        )
        self.parallel.save(self.folder / name, run, self.model, self.optimizer)

    def resume(self, path: str | Path) -> None:
        """Return to the moment ``path`` was written. Raises CheckpointError if it belongs to another run.

        Warns where this run computes in another precision, with other kernels or on another kind of device.
        """
        saved = self.parallel.read(Path(path))
        if differences := self.config.differences(saved.train_config):
            raise CheckpointError(
                f"{path} is a run with other settings ({'; '.join(differences)}): "
                "use TrainConfig.from_dict(load_checkpoint(path).train_config), or another folder"
            )
        self.parallel.restore(Path(path), saved, self.model, self.optimizer)
        self._compute_as(saved.arithmetic, path)
        self.scaler.load_state_dict(saved.scaler)
        self.batches.load_state_dict(saved.data)
        self._iterator = iter(self.batches)
        self.history = History.from_dict(saved.history)
        self.step = saved.step
        if saved.rng:
            set_rng_state(saved.rng)

    def _compute_as(self, saved: dict | None, path: str | Path) -> None:
        """Compute as the run that is resumed did if nobody chose otherwise; say so if it will not be the same."""
        if saved is None:  # written before this was kept
            return
        device, then = saved.get("device", "cpu"), {name: saved[name] for name in self.runtime.choice()}
        here = self.runtime.device.type
        if self._to_be_tuned and device == here:
            self.runtime = self.runtime.with_choice(then, "as the run that is resumed chose")
            self._arrange()
        self._to_be_tuned = False
        before, now = f"{device}, {in_words(then)}", f"{here}, {in_words(self.runtime.choice())}"
        if before != now and self.parallel.rank == 0:
            warnings.warn(
                f"{path} was trained with {before} and goes on with {now}: its losses will be close to those of a run "
                "that never stopped, not the same. Trainer(runtime=Runtime(...)) says where and how to compute",
                stacklevel=4,
            )

    def _arrange(self) -> None:
        """Make model and optimiser compute as the runtime says."""
        self.runtime.prepare(self.model)
        self.scaler = self.runtime.grad_scaler()
        if isinstance(self.optimizer, Muon) and self.runtime.dtype != torch.float32:
            self.optimizer.product_dtype = self.runtime.dtype
        if self.config.compile or self.runtime.compile:
            self._trained_model = torch.compile(self._trained_model)

    def _open_folder(self, resume: bool) -> None:
        """Go on with what the folder holds, or make sure that nothing is overwritten."""
        if resume and self.folder is None:
            raise ValueError("resume=True needs a folder to resume from: Trainer(..., folder=...)")
        if self.folder is None or self.step > 0:
            return
        last = find_checkpoint(self.folder, "last")
        if resume and last:
            self.resume(last)
        elif last:
            raise CheckpointError(
                f"{last} holds an earlier run: continue it with run(resume=True), choose another folder, or delete it"
            )


def require_position(batches: Iterable[Batch], folder: str | Path) -> None:
    """Raise ValueError for batches that cannot say where they are: a run in ``folder`` could not go on from there."""
    if not hasattr(batches, "state_dict"):
        raise ValueError(
            f"{type(batches).__name__} has no state_dict, so a run from {folder} could not be resumed where it "
            "stopped: use batches with state_dict and load_state_dict, or folder=None"
        )


def largest_weight(model: nn.Module, parallel: Parallel) -> float:
    """The size of the largest trained weight on any process; not finite as soon as one of them is not."""
    with torch.no_grad():
        sizes = [torch.linalg.vector_norm(p, ord=torch.inf) for p in model.parameters() if p.requires_grad]
        return parallel.whole(torch.linalg.vector_norm(torch.stack(sizes), ord=torch.inf)).item()
