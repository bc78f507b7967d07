"""Which arithmetic is fastest here for this model: asked of the machine, not of a table of machines.

Every choice gives the same numbers to rounding (bfloat16 products round more, as on a GPU). Which is fastest depends
on processor, sizes and context: a fused attention kernel wins on long contexts and loses on short ones, bfloat16 wins
where the processor multiplies it natively. So each choice takes the model's own batch forward and backward a few
times before training begins, and the fastest is kept. Fusing what lies between the products (``torch.compile``) needs
a C++ compiler and half a minute: it is tried last, on the fastest, where the run is long enough to earn that back.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from llmbook.model.linear import onednn_available
from llmbook.training.config import TrainConfig
from llmbook.training.objectives import Batch, Objective
from llmbook.training.rng import preserved_rng
from llmbook.training.runtime import DTYPES, Runtime

ROUNDS = range(3, 13)  # at least and at most so many passes of each choice, the first untimed; the fastest counts
ENOUGH = 3.0  # seconds after which the least number of rounds will do
WORTH_IT = 0.9  # a choice replaces the plain one if it takes at most this share of its time
WORTH_MEASURING = 500  # micro-batches in a run below which measuring costs more than it may gain
WORTH_COMPILING = 300.0  # seconds of training below which compiling costs more than it may gain

PLAIN = ("float32", "torch", "sdpa")


def choices() -> list[tuple[str, str, str]]:
    """(dtype, linear, attention) that this CPU can run, the plain one first."""
    linears = ["torch", "onednn"] if onednn_available() else ["torch"]
    found = [("float32", linear, attention) for linear in linears for attention in ("sdpa", "eager")]
    if onednn_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        found += [("bfloat16", "torch", attention) for attention in ("sdpa", "eager")]
    return found


def worth_measuring(runtime: Runtime, config: TrainConfig) -> bool:
    """Whether there is something to choose from, and a run long enough to earn back the time that measuring takes."""
    n_batches = config.steps * config.accumulation_steps
    return runtime.device.type == "cpu" and not config.compile and n_batches >= WORTH_MEASURING


def tuned(
    runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective, *, n_batches: int = WORTH_MEASURING
) -> Runtime:
    """``runtime``, a CPU in float32, with the fastest choice for ``model`` on ``batch``, of which ``n_batches`` come.

    Leaves weights, gradients (none) and random state as they were.
    """
    with preserved_rng():
        seconds = _compare(runtime, model, batch, objective)
        best = min(seconds, key=seconds.get)
        if seconds[best] > WORTH_IT * seconds[PLAIN]:
            best = PLAIN
        time_taken, tried = seconds[best], f"measured {len(seconds)} choices on this model"
        winner = chosen(runtime, best)
        if time_taken * n_batches > WORTH_COMPILING:
            winner.prepare(model)
            compiled = _fastest_compiled(winner, model, batch, objective)
            tried += " and the best of them compiled"
            if compiled <= WORTH_IT * time_taken:
                time_taken, winner = compiled, dataclasses.replace(winner, compile=True)
    model.zero_grad(set_to_none=True)
    said = f"{_words(winner)} takes {time_taken / seconds[PLAIN]:.2f} of the plain one's time"
    if best == PLAIN and not winner.compile:
        said = "the plain choice is as fast as any"
    return dataclasses.replace(winner, reason=f"{runtime.reason.split(';')[0]}; {tried}: {said}")


def chosen(
    runtime: Runtime, choice: tuple[str, str, str] | Mapping[str, str | bool], *, reason: str | None = None
) -> Runtime:
    """``runtime`` with another precision and other kernels: as ``choices`` lists or ``Runtime.choice`` says them."""
    said = choice if isinstance(choice, Mapping) else dict(zip(("dtype", "linear", "attention"), choice, strict=True))
    return dataclasses.replace(runtime, **{**said, "dtype": DTYPES[said["dtype"]]}, reason=reason or runtime.reason)


def _compare(runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective) -> dict:
    """Seconds each choice takes for the batch. In turns: what slows the machine for a while slows them all."""
    seconds, start = dict.fromkeys(choices(), math.inf), time.perf_counter()
    for i in range(ROUNDS.stop - 1):
        if i >= ROUNDS.start and time.perf_counter() - start > ENOUGH:
            break
        for choice in seconds:
            candidate = chosen(runtime, choice)
            candidate.prepare(model)
            taken = _seconds(candidate, model, batch, objective)
            if i > 0:  # the first pass meets cold caches
                seconds[choice] = min(seconds[choice], taken)
    return seconds


def _fastest_compiled(runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective) -> float:
    """The same through torch.compile; infinite where that does not work, whatever the reason."""
    try:
        compiled = torch.compile(model)
        return min(_seconds(runtime, compiled, batch, objective) for _ in range(ROUNDS.stop - 1))
    except Exception as error:  # no compiler, one too old, a model it cannot follow: training goes on without it
        warnings.warn(f"torch.compile is not used: {type(error).__name__}: {error}".splitlines()[0], stacklevel=2)
        return math.inf


def _seconds(runtime: Runtime, model: nn.Module, batch: Batch, objective: Objective) -> float:
    start = time.perf_counter()
    with runtime.autocast():
        loss = objective(model, batch)
    loss.total.backward()
    return time.perf_counter() - start if math.isfinite(loss.total.item()) else math.inf


def _words(runtime: Runtime) -> str:
    dtype = str(runtime.dtype).removeprefix("torch.")
    how = ", compiled" if runtime.compile else ""
    return f"{dtype}, {runtime.linear} products and {runtime.attention} attention{how}"
