"""Where a run stands: what callbacks may read, what a checkpoint holds, and how a run goes on from one.

The loop (``loop.py``) owns the state, moves it on, and decides when to write it down.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmbook.text.numbered import Positioned
from llmbook.training.checkpoint import Checkpoint, CheckpointError
from llmbook.training.config import TrainConfig
from llmbook.training.history import History
from llmbook.training.muon import Muon
from llmbook.training.objectives import Batch
from llmbook.training.parallel import Parallel, find_checkpoint
from llmbook.training.rng import rng_state, set_rng_state
from llmbook.training.runtime import Runtime, in_words


@dataclass(kw_only=True, eq=False)
class RunState:
    """A run at one moment. Callbacks are given it; all of it may be read, and ``stop()`` ends the run.

    Attributes:
        model, optimizer, scaler: what is trained and by what.
        batches: the training data, with its position.
        config, runtime, folder: the run's settings, where it computes, and where its checkpoints go.
        history, step: what has happened, and the number of steps done.
        stopping: whether the run ends after the present step.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Iterable[Batch]
    config: TrainConfig
    runtime: Runtime
    folder: Path | None = None
    scaler: torch.amp.GradScaler = field(init=False)
    history: History = field(default_factory=History)
    step: int = 0
    stopping: bool = False

    def __post_init__(self) -> None:
        self.compute_with(self.runtime)

    def stop(self) -> None:
        """End the run after the present step."""
        self.stopping = True

    def compute_with(self, runtime: Runtime) -> None:
        """From the next step on, compute as ``runtime`` says."""
        self.runtime = runtime
        runtime.prepare(self.model)
        self.scaler = runtime.grad_scaler()
        if isinstance(self.optimizer, Muon) and runtime.dtype != torch.float32:
            self.optimizer.product_dtype = runtime.dtype

    def state_dict(self) -> dict[str, Any]:
        """The fields of a ``Checkpoint``, without the tensors of model and optimiser: the parallel engine adds them."""
        model_config: Any = getattr(self.model, "config", None)
        return {
            "step": self.step,
            "model": {},
            "optimizer": {},
            "scaler": self.scaler.state_dict(),
            "rng": rng_state(),
            "data": positioned(self.batches).state_dict(),
            "history": self.history.to_dict(),
            "train_config": self.config.to_dict(),
            "model_config": model_config.to_dict() if hasattr(model_config, "to_dict") else None,
            "arithmetic": {"device": self.runtime.device.type, **self.runtime.choice()},
        }

    def load_state_dict(self, saved: Checkpoint) -> None:
        """Put back what ``state_dict`` gave. An empty ``rng`` (another number of processes) leaves the generators."""
        self.scaler.load_state_dict(saved.scaler)
        positioned(self.batches).load_state_dict(saved.data)
        self.history = History.from_dict(saved.history)
        self.step = saved.step
        if saved.rng:
            set_rng_state(saved.rng)


def save_run(state: RunState, path: Path, parallel: Parallel) -> None:
    """Write a checkpoint of this moment. Raises CheckpointError where it cannot be written."""
    parallel.save(path, Checkpoint(**state.state_dict()), state.model, state.optimizer)


def restore_run(state: RunState, path: Path, parallel: Parallel, *, adopt_runtime: bool) -> None:
    """Return to the moment the checkpoint was written.

    With ``adopt_runtime`` the run computes as the saved one did, if it is on the same kind of device. Warns where it
    computes in another precision, with other kernels or on another kind of device.

    Raises:
        CheckpointError: the checkpoint cannot be read or belongs to another run.
    """
    saved = parallel.read(path)
    if differences := state.config.differences(saved.train_config):
        raise CheckpointError(
            f"{path} is a run with other settings ({'; '.join(differences)}): "
            "use TrainConfig.from_dict(load_checkpoint(path).train_config), or another folder"
        )
    parallel.restore(path, saved, state.model, state.optimizer)
    if saved.arithmetic is not None:  # older checkpoints do not say
        then = {name: saved.arithmetic[name] for name in state.runtime.choice()}
        device, here = saved.arithmetic.get("device", "cpu"), state.runtime.device.type
        if adopt_runtime and device == here:
            state.compute_with(state.runtime.with_choice(then, "as the run that is resumed chose"))
        before, now = f"{device}, {in_words(then)}", f"{here}, {in_words(state.runtime.choice())}"
        if before != now and parallel.rank == 0:
            warnings.warn(
                f"{path} was trained with {before} and goes on with {now}: its losses will be close to those of a run "
                "that never stopped, not the same. Trainer(runtime=Runtime(...)) says where and how to compute",
                stacklevel=3,
            )
    state.load_state_dict(saved)


def checkpoint_to_resume(state: RunState, resume: bool) -> Path | None:
    """The checkpoint with which a run in the state's folder goes on; None for one that begins, or has begun here.

    Raises:
        ValueError: the run is to be resumed and has no folder.
        CheckpointError: the folder holds a run that is not to be resumed, and that must not be overwritten.
    """
    if resume and state.folder is None:
        raise ValueError("resume=True needs a folder to resume from: Trainer(..., folder=...)")
    if state.folder is None or state.step > 0:
        return None
    last = find_checkpoint(state.folder, "last")
    if last and not resume:
        raise CheckpointError(
            f"{last} holds an earlier run: continue it with run(resume=True), choose another folder, or delete it"
        )
    return last


def positioned(batches: Iterable[Batch]) -> Positioned:
    """The batches. Raises ValueError for those that cannot say where they are: no run could go on from there."""
    if not isinstance(batches, Positioned):
        raise ValueError(
            f"{type(batches).__name__} has no state_dict, so a run could not be resumed where it stopped: "
            "use batches with state_dict and load_state_dict, or folder=None"
        )
    return batches


def largest_weight(model: nn.Module, parallel: Parallel) -> float:
    """The size of the largest trained weight on any process; not finite as soon as one of them is not."""
    with torch.no_grad():
        sizes = [torch.linalg.vector_norm(p, ord=torch.inf) for p in model.parameters() if p.requires_grad]
        return parallel.whole(torch.linalg.vector_norm(torch.stack(sizes), ord=torch.inf)).item()
