"""The training loop: what surrounds the step. When to look, when to save, how to stop, how to go on.

Two promises shape it. A run that is killed at any moment and resumed ends with the same weights, bit for bit,
as one that never stopped. And nothing waits for the device between two log points: losses stay there as
tensors until ``log_every`` steps have been queued.
"""

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from llmbook.training.autotune import autotuned, worth_measuring
from llmbook.training.callbacks import Announce, Callback
from llmbook.training.config import TrainConfig
from llmbook.training.errors import EVALUATING, TrainingError, diverged, memory_advice, require_targets
from llmbook.training.evaluate import mean_loss
from llmbook.training.history import History
from llmbook.training.interrupt import deferred_interrupt
from llmbook.training.muon import muon
from llmbook.training.objectives import Batch, Objective, causal_lm_loss
from llmbook.training.optim import SCHEDULES, adamw
from llmbook.training.parallel import ALONE, Parallel
from llmbook.training.rng import preserved_rng
from llmbook.training.runtime import Runtime, choose_runtime
from llmbook.training.saving import Resumable, largest_weight, require_position
from llmbook.training.step import StepResult, train_step


class Trainer(Resumable):
    """Train ``model`` on ``batches``.

    batches: an endless iterator of dicts of tensors, with ``state_dict`` and ``load_state_dict`` if the run is to be
    resumed (``LMBatches`` has them). valid_batches: a collection that can be read again at every evaluation.
    folder: where ``last.pt`` and ``best.pt`` go (None: no checkpoints). callbacks may read every attribute:
    ``model``, ``step``, ``config``, ``history``, ``runtime``, ``folder``; ``stop()`` ends the run after the step.
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
            require_position(batches, folder)
        self.runtime = runtime or choose_runtime()
        self.parallel = parallel
        self.model = model.to(self.runtime.device)
        parallel.check(config, self.runtime)
        self._trained_model = parallel.wrap(self.model)  # before the optimiser: sharding replaces the parameters
        self.batches, self.valid_batches = batches, valid_batches
        self.config, self.objective, self.callbacks = config, objective, tuple(callbacks)
        self.folder = None if folder is None else Path(folder)
        dials = dict(lr=config.lr, weight_decay=config.weight_decay, betas=(config.beta1, config.beta2), eps=config.eps)
        with_muon = config.optimizer == "muon"
        self.optimizer = muon(model, muon_lr=config.muon_lr, **dials) if with_muon else adamw(model, **dials)
        self._peak_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self._arrange()
        self.step = 0
        self.history = History()
        self._iterator = iter(batches)
        self._targetless = 0  # steps in a row, up to the last one read
        self._unread: list[tuple[int, float, float, StepResult]] = []  # steps whose loss is still on the device
        self._last_shape: tuple[int, ...] | None = None
        self._stop = False
        nobody_chose = runtime is None and parallel is ALONE and hasattr(batches, "state_dict")
        self._to_be_tuned = nobody_chose and worth_measuring(self.runtime, config)
        if self._to_be_tuned and not any(isinstance(callback, Announce) for callback in self.callbacks):
            self.callbacks = (Announce(), *self.callbacks)  # a choice nobody made is said, not only made

    def run(self, *, resume: bool = False) -> History:
        """Train up to ``config.steps`` and return what happened.

        With ``resume`` the run goes on from the folder's last checkpoint if there is one. An interrupt finishes the
        step, writes a checkpoint and returns the history so far; calling ``run`` again continues. Raises
        TrainingError when the loss is no longer finite or memory runs out, CheckpointError when the folder
        holds another run.
        """
        self._open_folder(resume)
        self._stop = False
        if self._to_be_tuned and self.step == 0:
            with memory_advice(self._where):
                self._tune()
        self._clock = time.perf_counter() - (self.history.seconds[-1] if self.history.seconds else 0.0)
        self._call("on_start")
        self.model.train()
        try:
            with deferred_interrupt() as interrupt, memory_advice(self._where):
                if self._due(self.config.eval_every):
                    self._evaluate()
                while self.step < self.config.steps and not self.parallel.any(self._stop or interrupt.requested):
                    self._advance()
                    if self._due(self.config.log_every):
                        self._read_losses()
                    if self._due(self.config.eval_every):
                        self._evaluate()
                    if self._due(self.config.checkpoint_every or self.config.eval_every):
                        self.save("last.pt")
                if self.step < self.config.steps:  # stopped on the way
                    self.save("last.pt")
        finally:
            self._call("on_end")
        return self.history

    def stop(self) -> None:
        """End the run after the present step; for callbacks."""
        self._stop = True

    def save(self, name: str) -> None:
        """Write a checkpoint of this moment to ``folder/name``; without a folder, nothing.

        A checkpoint is a place to return to: it is written only if all losses up to here, and the weights after the
        last update, are finite. Raises TrainingError if they are not.
        """
        self._read_losses()
        if self.folder is not None and not math.isfinite(largest := largest_weight(self.model, self.parallel)):
            raise self._diverged(f"a weight is {largest} after step {self.step}")
        super().save(name)

    def resume(self, path: str | Path) -> None:
        super().resume(path)
        self._unread.clear()

    def _tune(self) -> None:
        """Choose precision and kernels by measuring; the batch that is measured is read again."""
        self._to_be_tuned = False
        position = self.batches.state_dict()
        batch = self._next_batch()
        self.batches.load_state_dict(position)
        self._iterator = iter(self.batches)
        self.model.train()
        ahead = self.config.steps * self.config.accumulation_steps
        self.runtime = autotuned(self.runtime, self.model, batch, self.objective, n_batches=ahead)
        self._arrange()

    def _advance(self) -> None:
        """Take one step, and leave its loss on the device."""
        config = self.config
        for group, peak_lr in zip(self.optimizer.param_groups, self._peak_lrs, strict=True):
            group["lr"] = self._lr(peak_lr)
        result = train_step(
            self._trained_model,
            [self._next_batch() for _ in range(config.accumulation_steps)],
            objective=self.objective,
            optimizer=self.optimizer,
            scaler=self.scaler,
            runtime=self.runtime,
            clip_norm=config.clip_norm,
            parallel=self.parallel,
        )
        lr = self._lr(config.lr)
        self.step += 1
        self._unread.append((self.step, lr, time.perf_counter() - self._clock, result))

    def _lr(self, peak: float) -> float:
        """The learning rate of the next step, on the schedule that reaches ``peak``."""
        return SCHEDULES[self.config.schedule](
            self.step + 1,
            steps=self.config.steps,
            lr=peak,
            warmup_steps=self.config.warmup_steps,
            min_lr_ratio=self.config.min_lr_ratio,
        )

    def _next_batch(self) -> dict[str, torch.Tensor]:
        try:
            batch = self.parallel.rows(next(self._iterator))
        except StopIteration:
            raise TrainingError(
                f"the batches ended at step {self.step + 1} of {self.config.steps}: give an endless iterator "
                "(LMBatches is one) or fewer steps"
            ) from None
        return self.runtime.to_device(self._noted(batch))

    def _noted(self, batch: Batch) -> Batch:
        """The batch, whose shape is remembered should memory run out on it."""
        self._last_shape = next((tuple(value.shape) for value in batch.values() if hasattr(value, "shape")), None)
        return batch

    def _read_losses(self) -> None:
        """Wait for the device, check the losses of the steps since the last time, and write them down."""
        if not self._unread:
            return
        results = [result for *_, result in self._unread]
        losses, n_targets, norms = (torch.stack(column).tolist() for column in zip(*results, strict=True))
        now = time.perf_counter() - self._clock
        unread, self._unread = self._unread, []
        for (step, lr, seconds, _), loss, n, norm in zip(unread, losses, n_targets, norms, strict=True):
            overflowed = self.scaler.is_enabled() and not math.isfinite(norm)  # its step was skipped: no harm
            self._targetless = require_targets(n, step, self._targetless, n_steps=self.config.steps)
            if n == 0:
                continue  # nothing has moved, and there is no loss
            if not math.isfinite(loss) or not (math.isfinite(norm) or overflowed):
                raise self._diverged(f"loss {loss}, gradient norm {norm} at step {step}", lr)
            norm = 0.0 if overflowed else norm
            seconds = now if step == self.step else seconds  # the last step's includes the wait for the device
            self.history.add(step, loss, lr=lr, grad_norm=norm, n_targets=int(n), seconds=seconds)
        self._call("on_log", self.step)

    def _evaluate(self) -> None:
        """Validation loss, then whoever wants to look; neither moves the run's random state."""
        if self.valid_batches is None or self.step in self.history.valid_steps[-1:]:
            return  # nothing to look at, or seen just before the run was stopped
        self._read_losses()
        with preserved_rng():
            with memory_advice(lambda: self._where(f"in the validation at step {self.step}", "batches"), EVALUATING):
                how = dict(objective=self.objective, runtime=self.runtime, parallel=self.parallel)
                loss = mean_loss(self.model, map(self._noted, self.valid_batches), **how)
            if not math.isfinite(loss):
                raise self._diverged(f"validation loss {loss} at step {self.step}")
            is_best = loss < self.history.best_valid_loss
            self.history.valid_steps.append(self.step)
            self.history.valid_loss.append(loss)
            self._call("on_evaluate", self.step)
            self.model.train()
        if is_best and self.step > 0:
            self.save("best.pt")

    def _due(self, every: int | None) -> bool:
        return self.step in (0, self.config.steps) or (every is not None and self.step % every == 0)

    def _call(self, hook: str, *arguments: int) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *arguments)

    def _diverged(self, what: str, lr: float | None = None) -> TrainingError:
        lr = self.history.lr[-1] if lr is None and self.step else lr
        return diverged(what, lr=lr, folder=self.folder, clip_norm=self.config.clip_norm)

    def _where(self, when: str = "", batches: str = "micro-batches") -> str:
        shape = f" with {batches} of shape {self._last_shape}" if self._last_shape else ""
        return f"on {self.runtime.device} {when or f'at step {self.step + 1}'}{shape}"
