"""Which arithmetic is fastest here for this model: asked of the machine, not of a table of machines.

Every choice gives the same numbers to rounding (bfloat16 products round more, as on a GPU). Which is fastest depends
on processor, sizes and context: a fused attention kernel wins on long contexts and loses on short ones, bfloat16 wins
where the processor multiplies it natively. So each choice takes the model's own batch forward and backward a few
times before training begins, and the fastest is kept.
"""

import dataclasses
import math
import time
from collections.abc import Mapping

import torch
from torch import nn

from llmbook.model.linear import onednn_available
from llmbook.training.objectives import Batch, Objective
from llmbook.training.rng import preserved_rng
from llmbook.training.runtime import DTYPES, Runtime

REPEATS = 2  # timed passes of each choice, after one that is not; the fastest counts
WORTH_IT = 0.9  # a choice replaces the plain one if it takes at most this share of its time
WORTH_MEASURING = 500  # micro-batches in a run below which measuring costs more than it may gain

PLAIN = ("float32", "torch", "sdpa")


def choices() -> list[tuple[str, str, str]]:
    """(dtype, linear, attention) that this CPU can run, the plain one first."""
    linears = ["torch", "onednn"] if onednn_available() else ["torch"]
    found = [("float32", linear, attention) for linear in linears for attention in ("sdpa", "eager")]
    if onednn_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        found += [("bfloat16", "torch", attention) for attention in ("sdpa", "eager")]
    return found


def tuned(runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective) -> Runtime:
    """``runtime``, a CPU in float32, with the fastest choice for ``model`` on ``batch``.

    Leaves weights, gradients (none) and random state as they were.
    """
    seconds: dict[tuple[str, str, str], float] = {}
    with preserved_rng():
        for choice in choices():
            candidate = chosen(runtime, choice)
            candidate.prepare(model)
            seconds[choice] = min(_seconds(candidate, model, batch, objective) for _ in range(1 + REPEATS))
    model.zero_grad(set_to_none=True)
    best = min(seconds, key=seconds.get)
    if seconds[best] > WORTH_IT * seconds[PLAIN]:
        best = PLAIN
    share = seconds[best] / seconds[PLAIN]
    said = "the plain choice is as fast as any" if best == PLAIN else f"{_words(best)} takes {share:.2f} of its time"
    where = runtime.reason.split(";")[0]
    return chosen(runtime, best, reason=f"{where}; of {len(seconds)} choices measured on this model, {said}")


def chosen(runtime: Runtime, choice: tuple[str, str, str] | Mapping[str, str], *, reason: str | None = None) -> Runtime:
    """``runtime`` with another precision and other kernels."""
    dtype, linear, attention = choice.values() if isinstance(choice, Mapping) else choice
    return dataclasses.replace(
        runtime, dtype=DTYPES[dtype], linear=linear, attention=attention, reason=reason or runtime.reason
    )


def _seconds(runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective) -> float:
    start = time.perf_counter()
    with runtime.autocast():
        loss = objective(model, batch)
    loss.total.backward()
    return time.perf_counter() - start if math.isfinite(loss.total.item()) else math.inf


def _words(choice: tuple[str, str, str]) -> str:
    dtype, linear, attention = choice
    return f"{dtype}, {linear} products and {attention} attention"
