"""The contenders of the training benchmark, each as a function that takes n optimiser steps on a machine's CPU.

Everybody sees the same windows (``LMBatches``), clips at norm 1, and runs nanoGPT's schedule unless it has one of
its own; peers without a published recipe of this size get nanoGPT's.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.plain_gpt import PlainGPT
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import LMBatches
from llmbook.training import Callback, Runtime, TrainConfig, Trainer, choose_device, cosine_schedule, parameter_groups


@dataclass(frozen=True)
class Size:
    n_layers: int
    n_heads: int
    d_model: int
    seq_len: int
    batch_size: int
    vocab_size: int = 65

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.seq_len


SIZES = {
    "small": Size(n_layers=4, n_heads=4, d_model=128, seq_len=64, batch_size=12),
    "larger": Size(n_layers=6, n_heads=6, d_model=384, seq_len=256, batch_size=8),
}
# nanoGPT's config/train_shakespeare_char.py with the changes its README makes for a CPU
RECIPE = dict(lr=1e-3, warmup_steps=100, min_lr_ratio=0.1, weight_decay=0.1, beta1=0.9, beta2=0.99, clip_norm=1.0)


class PeerLoop:
    """Somebody's model in the usual loop: forward, cross-entropy, backward, clip, fused AdamW, cosine."""

    def __init__(self, model: nn.Module, logits: Callable[[Tensor], Tensor], steps: int, bf16: bool):
        self.model, self.logits, self.steps, self.step, self.bf16 = model, logits, steps, 0, bf16
        groups = parameter_groups(model, weight_decay=RECIPE["weight_decay"])
        betas = (RECIPE["beta1"], RECIPE["beta2"])
        self.optimizer = torch.optim.AdamW(groups, lr=RECIPE["lr"], betas=betas, fused=True)

    def run(self, batches: LMBatches, n_steps: int) -> None:
        shape = {name: RECIPE[name] for name in ("lr", "warmup_steps", "min_lr_ratio")}
        for _ in range(n_steps):
            self.step += 1
            for group in self.optimizer.param_groups:
                group["lr"] = cosine_schedule(self.step, steps=self.steps, **shape)
            ids = next(batches)["input_ids"]
            with torch.autocast("cpu", dtype=torch.bfloat16) if self.bf16 else nullcontext():
                logits = self.logits(ids[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), RECIPE["clip_norm"])
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


class OurLoop:
    """The book's model in the book's Trainer, stopped after every n steps."""

    def __init__(self, config: TransformerConfig, runtime: Runtime, steps: int, **recipe):
        self.model = DecoderLM(config)
        self.config = TrainConfig(steps=steps, log_every=1, **{**RECIPE, **recipe})  # 1: it can stop at any step
        self.runtime, self.trainer = runtime, None

    def logits(self, ids: Tensor) -> Tensor:
        return self.model(ids).logits

    def run(self, batches: LMBatches, n_steps: int) -> None:
        if self.trainer is None:
            self.pause = _StopAfter()
            self.trainer = Trainer(self.model, batches, self.config, callbacks=[self.pause], runtime=self.runtime)
        self.pause.last = self.trainer.step + n_steps
        self.trainer.run()


class _StopAfter(Callback):
    def on_log(self, trainer: Trainer, step: int) -> None:
        if step >= self.last:
            trainer.stop()


def plain(size: Size, steps: int, bf16: bool, compiled: bool = False) -> PeerLoop:
    model = PlainGPT(**_sizes(size), seq_len=size.seq_len)
    return PeerLoop(model, torch.compile(model) if compiled else model, steps, bf16)


def ours(size: Size, steps: int, dtype: str, **recipe) -> OurLoop:
    config = TransformerConfig.gpt2(**_sizes(size), max_seq_len=size.seq_len)
    return OurLoop(config, choose_device("cpu", dtype), steps, **recipe)


def _sizes(size: Size) -> dict[str, int]:
    return {name: getattr(size, name) for name in ("vocab_size", "d_model", "n_layers", "n_heads")}


CONTENDERS: dict[str, Callable[[Size, int], PeerLoop | OurLoop]] = {
    "nanoGPT-style, fp32": lambda size, steps: plain(size, steps, bf16=False),
    "nanoGPT-style, bf16": lambda size, steps: plain(size, steps, bf16=True),
    "nanoGPT-style, compiled, fp32": lambda size, steps: plain(size, steps, bf16=False, compiled=True),
    "nanoGPT-style, compiled, bf16": lambda size, steps: plain(size, steps, bf16=True, compiled=True),
    "ours, GPT-2, fp32": lambda size, steps: ours(size, steps, "float32"),
    "ours, GPT-2, bf16": lambda size, steps: ours(size, steps, "bfloat16"),
    "ours, GPT-2, as chosen": lambda size, steps: ours(size, steps, "auto"),
}


def make_step(name: str, size: Size) -> Callable[[int], dict]:
    """In the worker: build a contender on random tokens; the function takes n steps and says how long they took."""
    torch.manual_seed(0)
    contender = CONTENDERS[name](size, 1_000_000)
    tokens = torch.randint(size.vocab_size, (100_000,))
    batches = LMBatches(tokens, batch_size=size.batch_size, seq_len=size.seq_len)

    def measure(n: int) -> dict:
        wall, cpu = time.perf_counter(), time.process_time()
        contender.run(batches, n)
        return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}

    return measure
