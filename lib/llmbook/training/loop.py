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

from llmbook.training.callbacks import Callback
from llmbook.training.checkpoint import Checkpoint, CheckpointError
from llmbook.training.config import TrainConfig
from llmbook.training.evaluate import mean_loss
from llmbook.training.history import History
from llmbook.training.interrupt import deferred_interrupt
from llmbook.training.muon import Muon, muon
from llmbook.training.objectives import Batch, Objective, causal_lm_loss
from llmbook.training.optim import SCHEDULES, adamw
from llmbook.training.parallel import ALONE, Parallel, find_checkpoint
from llmbook.training.rng import preserved_rng, rng_state, set_rng_state
from llmbook.training.runtime import Runtime, choose_device
from llmbook.training.step import StepResult, train_step
from llmbook.training.trouble import TrainingError, diverged, memory_advice
from llmbook.training.tuning import WORTH_MEASURING, chosen, tuned


class Trainer:
    """Train ``model`` on ``batches``.

    batches: an endless iterator of dicts of tensors, with ``state_dict`` and ``load_state_dict`` if the run is to be
    resumed (``LMBatches`` has them). valid_batches: a collection that can be read again at every evaluation.
    folder: where ``last.pt`` and ``best.pt`` go (None: no checkpoints). callbacks may read every attribute:
    ``model``, ``step``, ``config``, ``history``, ``runtime``, ``folder``; ``stop()`` ends the run after the step.
    runtime: where and in which precision; without one it is chosen, and on a CPU a run of 500 or more micro-batches
    measures precision and kernels first (``tuning.py``; the choice is in ``runtime`` and in the checkpoint).
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
        if folder is not None and not hasattr(batches, "state_dict"):
            raise ValueError(
                f"{type(batches).__name__} has no state_dict, so a run from {folder} could not be resumed where it "
                "stopped: use batches with state_dict and load_state_dict, or folder=None"
            )
        self.runtime = runtime or choose_device()
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
        self.scaler = self.runtime.grad_scaler()
        self.step = 0
        self.history = History()
        self._iterator = iter(batches)
        self._unread: list[tuple[int, float, float, StepResult]] = []  # steps whose loss is still on the device
        self._last_shape: tuple[int, ...] | None = None
        self._stop = False
        # Measured before the first step: only where nobody chose, one process runs, and the run is long enough.
        self._to_be_tuned = (
            runtime is None
            and parallel is ALONE
            and self.runtime.device.type == "cpu"
            and hasattr(batches, "state_dict")
            and not config.compile
            and config.steps * config.accumulation_steps >= WORTH_MEASURING
        )
        self._arithmetic: dict | None = None

    def run(self, *, resume: bool = False) -> History:
        """Train up to ``config.steps`` and return what happened.

        With ``resume`` the run goes on from the folder's last checkpoint if there is one. An interrupt finishes the
        step, writes a checkpoint and returns the history so far; calling ``run`` again continues. Raises
        TrainingError when the loss is no longer finite or memory runs out, CheckpointError when the folder
        holds another run.
        """
        self._open_folder(resume)
        self._stop = False
        if self._to_be_tuned:
            with memory_advice(self._where):
                self._tune()
        self._clock = time.perf_counter() - (self.history.seconds[-1] if self.history.seconds else 0.0)
        self._call("on_start")
        self.model.train()
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
        self._call("on_end")
        return self.history

    def stop(self) -> None:
        """End the run after the present step; for callbacks."""
        self._stop = True

    def save(self, name: str) -> None:
        """Write a checkpoint of this moment to ``folder/name``; without a folder, nothing.

        Losses are read first: weights are only kept once their losses are known to be finite.
        """
        self._read_losses()
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
            arithmetic=self._arithmetic,
        )
        self.parallel.save(self.folder / name, run, self.model, self.optimizer)

    def resume(self, path: str | Path) -> None:
        """Return to the moment ``path`` was written. Raises CheckpointError if it belongs to another run."""
        saved = self.parallel.read(Path(path))
        if differences := self.config.differences(saved.train_config):
            raise CheckpointError(
                f"{path} is a run with other settings ({'; '.join(differences)}): "
                "use TrainConfig.from_dict(load_checkpoint(path).train_config), or another folder"
            )
        self.parallel.restore(Path(path), saved, self.model, self.optimizer)
        self.scaler.load_state_dict(saved.scaler)
        self.batches.load_state_dict(saved.data)
        self._iterator = iter(self.batches)
        self.history = History.from_dict(saved.history)
        self.step = saved.step
        self._unread.clear()
        self._arithmetic = saved.arithmetic
        if saved.rng:
            set_rng_state(saved.rng)

    def _tune(self) -> None:
        """Choose precision and kernels by measuring, or as the run that is resumed chose: bit for bit the same."""
        self._to_be_tuned = False
        if self._arithmetic is None and self.step == 0:
            position = self.batches.state_dict()
            batch = self._next_batch()
            self.batches.load_state_dict(position)
            self._iterator = iter(self.batches)
            self.model.train()
            ahead = self.config.steps * self.config.accumulation_steps
            self.runtime = tuned(self.runtime, self.model, batch, self.objective, n_batches=ahead)
            self._arithmetic = self.runtime.choice()
        elif self._arithmetic is not None:
            self.runtime = chosen(self.runtime, self._arithmetic, reason="as the run that is resumed chose")
        self._arrange()

    def _arrange(self) -> None:
        """Make model and optimiser compute as the runtime says."""
        self.runtime.prepare(self.model)
        if isinstance(self.optimizer, Muon) and self.runtime.dtype == torch.bfloat16:
            self.optimizer.product_dtype = torch.bfloat16
        if self.config.compile or self.runtime.compile:
            self._trained_model = torch.compile(self._trained_model)

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
        self._last_shape = next((tuple(value.shape) for value in batch.values() if hasattr(value, "shape")), None)
        return self.runtime.to_device(batch)

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
            if n == 0:
                raise TrainingError(f"step {step} has no target token: every label of its batch is -100")
            if not math.isfinite(loss) or not (math.isfinite(norm) or overflowed):
                raise self._diverged(f"loss {loss}, gradient norm {norm} at step {step} with learning rate {lr:.3g}")
            history = self.history
            history.steps.append(step)
            history.train_loss.append(loss)
            history.lr.append(lr)
            history.grad_norm.append(0.0 if overflowed else norm)
            history.tokens.append(int(n) + (history.tokens[-1] if history.tokens else 0))
            history.seconds.append(now if step == self.step else seconds)
        self._call("on_log", self.step)

    def _evaluate(self) -> None:
        """Validation loss, then whoever wants to look; neither moves the run's random state."""
        if self.valid_batches is None or self.step in self.history.valid_steps[-1:]:
            return  # nothing to look at, or seen just before the run was stopped
        self._read_losses()
        with preserved_rng():
            loss = mean_loss(
                self.model, self.valid_batches, objective=self.objective, runtime=self.runtime, parallel=self.parallel
            )
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

    def _diverged(self, what: str) -> TrainingError:
        return diverged(what, folder=self.folder, clip_norm=self.config.clip_norm)

    def _where(self) -> str:
        return f"on {self.runtime.device} at step {self.step + 1} with micro-batches of shape {self._last_shape}"
