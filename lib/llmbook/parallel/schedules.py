r"""Who works when in a pipeline: the order of forward and backward passes of each stage, as data.

A stage must wait for the one before it (forward) or behind it (backward). With one batch all stages but one are idle
at any time; with m micro-batches they overlap, and what stays idle is the bubble at the two ends:

$$\text{bubble} = \frac{p-1}{m+p-1} \qquad p \text{ stages, } m \text{ micro-batches}$$

GPipe (https://arxiv.org/abs/1811.06965) runs all forward passes, then all backward passes, and must keep the
activations of m micro-batches. 1F1B (https://arxiv.org/abs/1806.03377; with one update per batch, as here,
https://arxiv.org/abs/2104.04473) starts going backward as soon as it can: the bubble is the same, but stage r of p,
counted from 0, keeps p - r micro-batches at most.
"""

from typing import Literal, NamedTuple

Kind = Literal["gpipe", "1f1b"]
KINDS: tuple[Kind, ...] = ("gpipe", "1f1b")


class Pass(NamedTuple):
    """One forward ("F") or backward ("B") pass of a micro-batch."""

    direction: Literal["F", "B"]
    micro_batch: int


class Slot(NamedTuple):
    """A pass in time: stage ``stage`` does it from ``start`` to ``start + 1``."""

    stage: int
    start: int
    direction: Literal["F", "B"]
    micro_batch: int


def order(stage: int, n_stages: int, n_micro_batches: int, *, kind: Kind = "gpipe") -> list[Pass]:
    """What one stage does, in its order. Raises ValueError for an unknown kind or numbers below 1."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(map(repr, KINDS))}")
    if not (n_micro_batches >= 1 and 0 <= stage < n_stages):
        raise ValueError(f"stage {stage} of {n_stages} with {n_micro_batches} micro-batches: there is nothing to do")
    forwards = [Pass("F", i) for i in range(n_micro_batches)]
    backwards = [Pass("B", i) for i in range(n_micro_batches)]
    if kind == "gpipe":
        return forwards + backwards
    ahead = min(n_stages - 1 - stage, n_micro_batches)  # forward passes before the first backward can come back
    in_turn = [step for pair in zip(forwards[ahead:], backwards, strict=False) for step in pair]
    return forwards[:ahead] + in_turn + backwards[n_micro_batches - ahead :]


def schedule(n_stages: int, n_micro_batches: int, *, kind: Kind = "gpipe") -> list[Slot]:
    """When each pass runs if each takes one unit of time and starts as soon as its stage and its input are ready."""
    todo = [order(stage, n_stages, n_micro_batches, kind=kind) for stage in range(n_stages)]
    ends: dict[tuple, int] = {}
    free_at = [0] * n_stages
    slots = []
    while any(todo):
        for stage, passes in enumerate(todo):
            while passes and ((needs := _input_of(stage, n_stages, passes[0])) is None or needs in ends):
                step = passes.pop(0)
                start = free_at[stage] if needs is None else max(free_at[stage], ends[needs])
                slots.append(Slot(stage, start, *step))
                free_at[stage] = ends[stage, *step] = start + 1
    return sorted(slots)


def bubble_fraction(slots: list[Slot]) -> float:
    """The part of all stages' time, from first start to last end, in which they wait."""
    n_stages = 1 + max(slot.stage for slot in slots)
    length = 1 + max(slot.start for slot in slots)
    return 1 - len(slots) / (n_stages * length)


def most_in_flight(slots: list[Slot], stage: int) -> int:
    """For how many micro-batches at once a stage keeps activations: gone forward, not yet back."""
    held, most = 0, 0
    for slot in sorted(slot for slot in slots if slot.stage == stage):
        held += 1 if slot.direction == "F" else -1
        most = max(most, held)
    return most


def _input_of(stage: int, n_stages: int, step: Pass) -> tuple | None:
    """The pass whose result this one needs: (stage, direction, micro-batch)."""
    if step.direction == "F":
        return (stage - 1, *step) if stage > 0 else None
    return (stage + 1, *step) if stage < n_stages - 1 else (stage, "F", step.micro_batch)
