"""What the spawned processes do; the asserts stand in the test files."""

import os
import re
import signal
from pathlib import Path
from unittest.mock import patch

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.training import Callback, RunState, TrainConfig, Trainer, causal_lm_loss, choose_runtime, train_step
from llmbook.training.distributed import load_sharded, make_parallel
from llmbook.training.parallel import ALONE

CPU = choose_runtime("cpu")
ROWS, SEQ_LEN = 4, 8
# A large eps: a key's bias has no gradient but rounding, which Adam would otherwise blow up to full steps.
DIALS = dict(
    steps=6, lr=1e-2, eps=1e-3, accumulation_steps=2, clip_norm=0.5, eval_every=3, checkpoint_every=3, log_every=2
)


# The parts of the modern preset; three rows of a convolution, which two processes cannot share evenly.
MODERN = dict(positions="rope", norm="rmsnorm", feed_forward="relu2", bias=False, qk_norm=True, conv_width=3)


class UnevenBatches:
    """Random tokens; the first half of the rows has about a fifth of the second half's targets."""

    def __init__(self, rows: int = ROWS):
        self.rows, self.step = rows, 0

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(11, (self.rows, SEQ_LEN + 1), generator=generator)
        labels = ids.clone()
        labels[: self.rows // 2][torch.rand(self.rows // 2, SEQ_LEN + 1, generator=generator) < 0.8] = -100
        return {"input_ids": ids, "labels": labels}

    def __iter__(self):
        return self

    def __next__(self):
        self.step += 1
        return self.batch(self.step - 1)

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, state):
        self.step = state["step"]


def small_model(seed: int = 0, **shape) -> DecoderLM:
    """Biases, gains and convolutions moved away from 0 and 1; a tied table, so that one parameter has two names."""
    torch.manual_seed(seed)
    values = dict(vocab_size=11, max_seq_len=SEQ_LEN, d_model=16, n_layers=2, n_heads=2, init_std=0.2)
    model = DecoderLM(TransformerConfig(**{**values, **shape}))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(0.2 * torch.randn_like(p)) if p.ndim == 1 or "conv" in name else None
    return model


def make_trainer(
    parallel=ALONE,
    folder=None,
    *,
    seed=0,
    dropout=0.0,
    shape=None,
    objective=causal_lm_loss,
    callbacks=(),
    runtime=CPU,
    **dials,
):
    model = small_model(seed, dropout=dropout, **(shape or {}))
    torch.manual_seed(100 + seed)  # every process has its own dropout
    return Trainer(
        model,
        UnevenBatches(),
        TrainConfig(**{**DIALS, **dials}),
        valid_batches=[UnevenBatches(rows).batch(50 + rows) for rows in (2, 4, 6)],  # three, for two processes
        objective=objective,
        callbacks=callbacks,
        runtime=runtime,
        folder=folder,
        parallel=parallel,
    )


def weights(model) -> dict[str, torch.Tensor]:
    """The whole model on every process, sharded or not."""
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    return {name: tensor.clone() for name, tensor in full.items()}


class Capture(torch.optim.SGD):
    """Takes no step; keeps the gradients it was given."""

    def step(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        self.seen = [g.full_tensor().clone() if isinstance(g, DTensor) else g.clone() for g in grads]


# Of an engine: what a step gets wrong that takes the average over processes for the sum, or its own targets for all.
MISTAKES = {"world_size": 1, "sum": lambda *values: values}


def gradients(parallel=ALONE, *, shape=None, **mistake) -> dict:
    """Of one step of two micro-batches, before any clipping; and the loss."""
    model = parallel.wrap(small_model(seed=parallel.rank, **(shape or {})))
    optimizer = Capture(model.parameters(), lr=1.0)
    batches = [parallel.rows(UnevenBatches().batch(step)) for step in (0, 1)]
    with patch.dict(vars(parallel), mistake):
        result = train_step(
            model, batches, objective=causal_lm_loss, optimizer=optimizer, scaler=CPU.grad_scaler(), runtime=CPU,
            clip_norm=None, parallel=parallel,
        )  # fmt: skip
    return {"gradients": optimizer.seen, "loss": result.loss.item()}


class At(Callback):
    """Does something when the log reaches a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_log(self, trainer, step):
        if step == self.step:
            self.action(trainer)


def error_of(call) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


class Counted:
    """The usual loss, and how many batches were evaluated here."""

    evaluated = 0

    def __call__(self, model, batch):
        self.evaluated += not model.training
        return causal_lm_loss(model, batch)


def nan_on(rank: int, parallel):
    """The usual loss, but not a number on one process in the fourth step (seventh micro-batch of training)."""
    calls = 0

    def objective(model, batch):
        nonlocal calls
        loss = causal_lm_loss(model, batch)
        calls += model.training
        bad = parallel.rank == rank and calls == 7
        return loss._replace(total=loss.total * float("nan")) if bad else loss

    return objective


class SaveHalf(Callback):
    """A checkpoint in the middle of the run of ``trainer``, to be set when there is one."""

    trainer: Trainer

    def on_log(self, run, step):
        if step == 3:
            self.trainer.save("half.pt")


def interrupt(trainer) -> None:
    signal.raise_signal(signal.SIGINT)


def killed(folder: str) -> None:
    """A sharded run that dies after step 4; its last checkpoint is that of step 3."""
    parallel = make_parallel("fsdp")
    end = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows any signal ends a process at once
    die = At(4, lambda trainer: os.kill(os.getpid(), end))
    make_trainer(parallel, folder, seed=parallel.rank, dropout=0.2, callbacks=[die]).run()


def everything(folder: str) -> dict:
    """Both engines, whatever can be seen of them from outside."""
    found = {}
    for kind in ("ddp", "fsdp"):
        parallel = make_parallel(kind)
        rank = parallel.rank
        seen = found[kind] = {}
        seen["step"] = gradients(parallel)
        seen["modern step"] = gradients(parallel, shape=MODERN)
        seen["mistaken"] = {name: gradients(parallel, **{name: wrong}) for name, wrong in MISTAKES.items()}

        counted = Counted()
        keep_half = SaveHalf()
        trainer = make_trainer(parallel, f"{folder}/{kind}", seed=rank, callbacks=[keep_half], objective=counted)
        keep_half.trainer = trainer
        seen["history"] = trainer.run().to_dict()
        seen["weights"] = weights(trainer.model)
        seen["evaluated"] = counted.evaluated

        # Two processes with dropout: straight through, and stopped by one of them and resumed by new trainers.
        trainer = make_trainer(parallel, seed=rank, dropout=0.2)
        seen["straight"] = (trainer.run().train_loss, weights(trainer.model))
        stop = [At(2, interrupt)] if rank == 1 else []
        first = make_trainer(parallel, f"{folder}/{kind}-stopped", seed=rank, dropout=0.2, callbacks=stop)
        seen["stopped_at"] = first.run() and first.step
        second = make_trainer(parallel, f"{folder}/{kind}-stopped", seed=rank + 7, dropout=0.2)
        seen["resumed"] = (second.run(resume=True).train_loss, weights(second.model))

        bad = make_trainer(parallel, f"{folder}/{kind}-nan", seed=rank, objective=nan_on(1, parallel))
        seen["nan"] = error_of(bad.run)
        mended = make_trainer(parallel, f"{folder}/{kind}-mended", seed=rank + 5, lr=2e-3)
        advice = re.search(r"with its weights, (.*), and a lower lr", seen["nan"])[1]
        eval(advice, {"load_sharded": load_sharded, "Path": Path, "model": mended.model})
        seen["mended"] = (weights(mended.model), mended.run().to_dict())

        # What one process has begun.
        grown = make_trainer(parallel, f"{folder}/one-{kind}", seed=rank + 9)
        seen["grown"] = (grown.run(resume=True).train_loss, weights(grown.model))

        if kind == "ddp":
            dials = dict(optimizer="muon", shape=MODERN)
            halfway = make_trainer(parallel, f"{folder}/muon", seed=rank, callbacks=[At(3, RunState.stop)], **dials)
            halfway.run()
            whole = make_trainer(parallel, f"{folder}/muon", seed=rank + 9, **dials)
            seen["muon"] = (halfway.step, whole.run(resume=True).train_loss, weights(whole.model))

    found["one file"] = error_of(lambda: grown.resume(f"{folder}/one/half.pt"))
    survivor = make_trainer(parallel, f"{folder}/killed", seed=rank + 7, dropout=0.2)
    found["killed"] = (survivor.run(resume=True).train_loss, weights(survivor.model))
    odd = {"input_ids": torch.zeros(3, 4, dtype=torch.long)}
    found["odd rows"] = error_of(lambda: parallel.rows(odd))
    found["rows"] = parallel.rows(UnevenBatches().batch(0))
    return found
