"""The training loop: what surrounds the step. When to look, when to save, how to stop, how to go on.

Two promises shape it. A run that is killed at any moment and resumed ends with the same weights, bit for bit,
as one that never stopped. And nothing waits for the device between two log points: losses stay there as
tensors until ``log_every`` steps have been queued.
"""

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmbook.text.numbered import Positioned
from llmbook.training.autotune import autotuned, worth_measuring
from llmbook.training.callbacks import Announce, Callback
from llmbook.training.config import TrainConfig
from llmbook.training.errors import EVALUATING, memory_advice
from llmbook.training.evaluate import mean_loss
from llmbook.training.feed import Feed, Unread, stopped_by
from llmbook.training.history import History
from llmbook.training.interrupt import deferred_interrupt
from llmbook.training.muon import muon
from llmbook.training.objectives import Batch, Objective, causal_lm_loss
from llmbook.training.optim import SCHEDULES, adamw
from llmbook.training.parallel import ALONE, Parallel
from llmbook.training.rng import preserved_rng
from llmbook.training.runtime import Runtime, choose_runtime
from llmbook.training.state import (
    RunState,
    checkpoint_to_resume,
    largest_weight,
    positioned,
    restore_run,
    save_run,
)
from llmbook.training.step import train_step


class Trainer:
    """Train ``model`` on ``batches``.

    batches: an endless iterator of dicts of tensors, with ``state_dict`` and ``load_state_dict`` if the run is to be
    resumed (``LMBatches`` has them). valid_batches: a collection that can be read again at every evaluation.
    folder: where ``last.pt`` and ``best.pt`` go (None: no checkpoints). callbacks: what watches the run, each given
    its ``state``, a ``RunState``.
    runtime: where and in which precision; without one it is chosen, and on a CPU a run of 500 or more micro-batches
    measures precision and kernels first (``autotune.py``; the choice is printed and kept in ``runtime``).
    parallel: DDP or FSDP of ``training.distributed`` for a run of several processes. Each makes the same trainer with
    the same whole batches and computes its own rows of them, and of the validation batches every n-th; losses are
    those of all. Callbacks belong to the process they are given to: what prints or writes goes to rank 0. Such runs
    keep folders ``last-STEP.dcp``, not ``last.pt``. Raises ValueError for ``valid_batches`` that can be read only once,
    and for a ``folder`` with batches that have no state.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        config: TrainConfig,
        *,
        objective: Objective = causal_lm_loss,
        valid_batches: Iterable[Batch] | None = None,
        callbacks: Sequence[Callback] = (),
        runtime: Runtime | None = None,
        folder: str | Path | None = None,
        parallel: Parallel = ALONE,
    ):
        if valid_batches is not None and iter(valid_batches) is valid_batches:
            raise ValueError("valid_batches can be read only once, but every evaluation reads it: wrap it in list(...)")
        if folder is not None:
            positioned(batches)
        runtime, by_default = runtime or choose_runtime(), runtime is None
        self.parallel = parallel
        model = model.to(runtime.device)
        parallel.check(config, runtime)
        self._trained_model: Any = parallel.wrap(model)  # before the optimiser: sharding replaces the parameters
        self.valid_batches, self.objective, self.callbacks = valid_batches, objective, tuple(callbacks)
        betas = (config.beta1, config.beta2)
        options: dict[str, Any] = dict(lr=config.lr, weight_decay=config.weight_decay, betas=betas, eps=config.eps)
        with_muon = config.optimizer == "muon"
        self.state = RunState(
            model=model,
            optimizer=muon(model, muon_lr=config.muon_lr, **options) if with_muon else adamw(model, **options),
            batches=batches,
            config=config,
            runtime=runtime,
            folder=None if folder is None else Path(folder),
        )
        self._peak_lrs = [group["lr"] for group in self.state.optimizer.param_groups]
        if config.compile or runtime.compile:
            self._trained_model = torch.compile(self._trained_model)
        self._feed, self._unread = Feed(self.state, parallel), Unread()
        unchosen = by_default and parallel is ALONE and isinstance(batches, Positioned)
        self._to_be_tuned = unchosen and worth_measuring(runtime, config)
        if self._to_be_tuned and not any(isinstance(callback, Announce) for callback in self.callbacks):
            self.callbacks = (Announce(), *self.callbacks)  # what is chosen for the user is reported

    @property
    def model(self) -> nn.Module:
        return self.state.model

    @property
    def runtime(self) -> Runtime:
        return self.state.runtime

    @property
    def history(self) -> History:
        return self.state.history

    @property
    def step(self) -> int:
        return self.state.step

    def run(self, *, resume: bool = False) -> History:
        """Train up to ``config.steps`` and return what happened.

        With ``resume`` the run goes on from the folder's last checkpoint if there is one. An interrupt finishes the
        step, writes a checkpoint and returns the history so far; calling ``run`` again continues. Raises
        TrainingError when the loss is no longer finite or memory runs out, CheckpointError when the folder
        holds another run.
        """
        state, config = self.state, self.state.config
        if last := checkpoint_to_resume(state, resume):
            self.resume(last)
        state.stopping = False
        if self._to_be_tuned and self.step == 0:
            with memory_advice(self._feed.where):
                self._tune()
        self._clock = time.perf_counter() - (self.history.seconds[-1] if self.history.seconds else 0.0)
        self._call("on_start")
        self.model.train()
        try:
            with deferred_interrupt() as interrupt, memory_advice(self._feed.where):
                if self._due(config.eval_every):
                    self._evaluate()
                while self.step < config.steps and not self.parallel.any(state.stopping or interrupt.requested):
                    self._advance()
                    if self._due(config.log_every):
                        self._read_losses()
                    if self._due(config.eval_every):
                        self._evaluate()
                    if self._due(config.checkpoint_every or config.eval_every):
                        self.save("last.pt")
                if self.step < config.steps:  # stopped on the way
                    self.save("last.pt")
        finally:
            self._call("on_end")
        return self.history

    def save(self, name: str) -> None:
        """Write a checkpoint of this moment to ``folder/name``; without a folder, nothing.

        A checkpoint is a place to return to: it is written only if all losses up to here, and the weights after the
        last update, are finite. Raises TrainingError if they are not.
        """
        self._read_losses()
        if (folder := self.state.folder) is None:
            return
        if not math.isfinite(largest := largest_weight(self.model, self.parallel)):
            raise stopped_by(self.state, f"a weight is {largest} after step {self.step}")
        save_run(self.state, folder / name, self.parallel)

    def resume(self, path: str | Path) -> None:
        """Return to the moment ``path`` was written.

        Raises:
            CheckpointError: it belongs to another run.
        """
        compiled = self.runtime.compile
        restore_run(self.state, Path(path), self.parallel, adopt_runtime=self._to_be_tuned)
        self._to_be_tuned = False
        if self.runtime.compile and not compiled:
            self._trained_model = torch.compile(self._trained_model)
        self._feed.rewind()
        self._unread.steps.clear()

    def _tune(self) -> None:
        """Choose precision and kernels by measuring; the batch that is measured is read again."""
        self._to_be_tuned = False
        batches, config = positioned(self.state.batches), self.state.config
        position = batches.state_dict()
        batch = self._feed.next()
        batches.load_state_dict(position)
        self._feed.rewind()
        self.model.train()
        ahead = config.steps * config.accumulation_steps
        self.state.compute_with(autotuned(self.runtime, self.model, batch, self.objective, n_batches=ahead))
        if self.runtime.compile:
            self._trained_model = torch.compile(self._trained_model)

    def _advance(self) -> None:
        """Take one step, and leave its loss on the device."""
        config = self.state.config
        for group, peak_lr in zip(self.state.optimizer.param_groups, self._peak_lrs, strict=True):
            group["lr"] = self._lr(peak_lr)
        result = train_step(
            self._trained_model,
            [self._feed.next() for _ in range(config.accumulation_steps)],
            objective=self.objective,
            optimizer=self.state.optimizer,
            scaler=self.state.scaler,
            runtime=self.runtime,
            clip_norm=config.clip_norm,
            parallel=self.parallel,
        )
        lr, self.state.step = self._lr(config.lr), self.step + 1
        self._unread.add(self.step, lr, time.perf_counter() - self._clock, result)

    def _lr(self, peak: float) -> float:
        """The learning rate of the next step, on the schedule that reaches ``peak``."""
        config = self.state.config
        options: dict[str, Any] = dict(
            steps=config.steps, warmup_steps=config.warmup_steps, min_lr_ratio=config.min_lr_ratio
        )
        return SCHEDULES[config.schedule](self.step + 1, lr=peak, **options)

    def _read_losses(self) -> None:
        if self._unread.read_into(self.state, self._clock):
            self._call("on_log", self.step)

    def _evaluate(self) -> None:
        """Validation loss, then the callbacks; neither moves the run's random state."""
        if self.valid_batches is None or self.step in self.history.valid_steps[-1:]:
            return  # nothing to look at, or seen just before the run was stopped
        self._read_losses()
        with preserved_rng():
            moment = f"in the validation at step {self.step}"
            with memory_advice(lambda: self._feed.where(moment, "batches"), EVALUATING):
                how: dict[str, Any] = dict(objective=self.objective, runtime=self.runtime, parallel=self.parallel)
                loss = mean_loss(self.model, map(self._feed.noted, self.valid_batches), **how)
            if not math.isfinite(loss):
                raise stopped_by(self.state, f"validation loss {loss} at step {self.step}")
            is_best = loss < self.history.best_valid_loss
            self.history.valid_steps.append(self.step)
            self.history.valid_loss.append(loss)
            self._call("on_evaluate", self.step)
            self.model.train()
        if is_best and self.step > 0:
            self.save("best.pt")

    def _due(self, every: int | None) -> bool:
        return self.step in (0, self.state.config.steps) or (every is not None and self.step % every == 0)

    def _call(self, hook: str, *arguments: int) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self.state, *arguments)
