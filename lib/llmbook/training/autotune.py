"""Which arithmetic is fastest for this model on this machine: measured, not looked up.

Every choice gives the same numbers to rounding (bfloat16 products round more, as on a GPU). Which is fastest depends
on processor, sizes and context: a fused attention kernel wins on long contexts and loses on short ones, bfloat16 wins
where the processor multiplies it natively. So each choice takes the model's own batch forward and backward a few
times before training begins, and the fastest is kept. Fusing what lies between the products (``torch.compile``) needs
a C++ compiler and half a minute: it is tried last, on the fastest, where the run is long enough to earn that back.
"""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from llmbook.cpu import onednn
from llmbook.training.config import TrainConfig
from llmbook.training.objectives import Batch, Objective
from llmbook.training.rng import preserved_rng
from llmbook.training.runtime import Runtime, in_words

ROUNDS = range(3, 13)  # at least and at most so many passes of each choice, the first untimed; the fastest counts
ENOUGH = 3.0  # seconds after which the least number of rounds will do
WORTH_IT = 0.9  # a choice replaces the plain one if it takes at most this share of its time
STILL_WORTH_IT = 0.97  # the same for the compiled model, whose price has been paid once it is measured
WORTH_MEASURING = 500  # micro-batches in a run below which measuring costs more than it may gain
WORTH_COMPILING = 300.0  # seconds of training below which compiling costs more than it may gain


def candidates(runtime: Runtime) -> list[Runtime]:
    """``runtime``, a CPU, in every precision and with all kernels that this one can run; the plain one first."""
    linears = ["torch", "onednn"] if onednn.available() else ["torch"]
    choices = [(torch.float32, linear, attention) for linear in linears for attention in ("sdpa", "eager")]
    if onednn.multiplies_bfloat16():
        choices += [(torch.bfloat16, "torch", attention) for attention in ("sdpa", "eager")]
    return [replace(runtime, dtype=dtype, linear=linear, attention=attention) for dtype, linear, attention in choices]


def worth_measuring(runtime: Runtime, config: TrainConfig) -> bool:
    """Whether there is something to choose from, and a run long enough to earn back the time that measuring takes."""
    n_batches = config.steps * config.accumulation_steps
    return runtime.device.type == "cpu" and not config.compile and n_batches >= WORTH_MEASURING


def autotuned(
    runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective, *, n_batches: int = WORTH_MEASURING
) -> Runtime:
    """``runtime``, a CPU in float32, with the fastest choice for ``model`` on ``batch``, of which ``n_batches`` come.

    Leaves weights, gradients (none) and random state as they were.
    """
    plain, *others = candidates(runtime)
    with preserved_rng():
        seconds = compare([plain, *others], model, batch, objective)
        fastest = min(seconds, key=seconds.__getitem__)
        winner = fastest if seconds[fastest] <= WORTH_IT * seconds[plain] else plain
        share, tried = seconds[winner] / seconds[plain], f"measured {len(seconds)} choices on this model"
        if seconds[winner] * n_batches > WORTH_COMPILING:
            tried += " and the best of them compiled"
            share_compiled = _share_compiled(winner, model, batch, objective)
            if share_compiled <= STILL_WORTH_IT:
                winner, share = replace(winner, compile=True), share * share_compiled
    model.zero_grad(set_to_none=True)
    found = "the plain choice is as fast as any"
    if winner != plain:
        found = f"{in_words(winner.choice())} takes {share:.2f} of the plain one's time"
    return replace(winner, reason=f"{runtime.reason.split(';')[0]}; {tried}: {found}")


def compare(choices: Sequence[Runtime], model: nn.Module, batch: Batch, objective: Objective) -> dict[Runtime, float]:
    """Seconds each choice takes for the batch. In turns: what slows the machine for a while slows them all."""
    models: dict[Runtime, Any] = {runtime: torch.compile(model) if runtime.compile else model for runtime in choices}
    seconds = dict.fromkeys(choices, math.inf)
    for i in range(ROUNDS.stop - 1):
        if i == 1:  # the first pass met cold caches, or compiled
            start, seconds = time.perf_counter(), dict.fromkeys(choices, math.inf)
        if i >= ROUNDS.start and time.perf_counter() - start > ENOUGH:
            break
        for runtime in choices:
            runtime.prepare(model)
            seconds[runtime] = min(seconds[runtime], _seconds(runtime, models[runtime], batch, objective))
    return seconds


def _share_compiled(runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective) -> float:
    """Share of its own time ``runtime`` takes through torch.compile; infinite where that fails, for whatever reason."""
    compiled = replace(runtime, compile=True)
    try:
        seconds = compare([runtime, compiled], model, batch, objective)
    except Exception as error:  # no compiler, one too old, a model it cannot follow: training goes on without it
        warnings.warn(f"torch.compile is not used: {type(error).__name__}: {error}".splitlines()[0], stacklevel=2)
        return math.inf
    return seconds[compiled] / seconds[runtime]


def _seconds(runtime: Runtime, model: Any, batch: Batch, objective: Objective) -> float:
    start = time.perf_counter()
    with runtime.autocast():
        loss = objective(model, batch)
    loss.total.backward()
    return time.perf_counter() - start if math.isfinite(loss.total.item()) else math.inf
