"""The hyper-parameters of one training run: a frozen dataclass that checks itself and can be written as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal, Self

from llmbook.training.optim import SCHEDULES

# Fields that change what is watched, not what is learned: a resumed run may have other values.
_FREE_ON_RESUME = frozenset({"log_every", "eval_every", "checkpoint_every", "compile"})

_OPTIONAL = frozenset({"clip_norm", "eval_every", "checkpoint_every"})  # None has a meaning


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Raises ValueError naming a value that makes no sense.

    steps: optimiser steps. lr: the highest learning rate, reached after ``warmup_steps``; it ends at
    ``min_lr_ratio * lr``, by half a cosine or, with schedule="trapezoid", late and in a straight line (``optim``).
    accumulation_steps: micro-batches behind one optimiser step. clip_norm: the largest
    allowed norm of the gradient (None: no limit). eval_every: steps between evaluations (None: only at the
    start and the end). log_every: steps between two waits for the device, when losses are read. checkpoint_every:
    steps between checkpoints (None: at every evaluation); one is always written at the end.
    compile: run the model through torch.compile. optimizer: "adamw", or "muon", which moves the matrices of the
    blocks with ``muon_lr`` (same schedule) and leaves the rest to AdamW with ``lr``.
    """

    steps: int
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    muon_lr: float = 0.02
    schedule: Literal["cosine", "trapezoid"] = "cosine"
    warmup_steps: int = 0
    min_lr_ratio: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    accumulation_steps: int = 1
    eval_every: int | None = None
    log_every: int = 10
    checkpoint_every: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation_steps", "log_every", "eval_every", "checkpoint_every"):
            value = getattr(self, name)
            if not (type(value) is int and value >= 1) and not (value is None and name in _OPTIONAL):
                raise ValueError(f"{name}={value!r}: must be a whole number of at least 1")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer={self.optimizer!r} is not one of 'adamw', 'muon'")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r} is not one of {', '.join(map(repr, SCHEDULES))}")
        for name in ("lr", "muon_lr", "eps", "clip_norm"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and 0 < value < float("inf")
            if not is_number and not (value is None and name in _OPTIONAL):
                raise ValueError(f"{name}={value!r}: must be positive and finite")
        for name in ("beta1", "beta2", "min_lr_ratio", "weight_decay", "warmup_steps"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be a number")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must lie in [0, 1)")
        if not 0 <= self.min_lr_ratio <= 1:
            raise ValueError(f"min_lr_ratio={self.min_lr_ratio}: must lie in [0, 1]")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay={self.weight_decay}: must not be negative")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps}: must lie between 0 and steps={self.steps}")

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """The inverse of ``to_dict``. Raises ValueError naming fields it does not know."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"TrainConfig has no field {', '.join(unknown)}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls.from_dict(json.loads(text))

    def differences(self, other: dict) -> list[str]:
        """Which fields of a saved run would make this one learn something else, as "name: saved → now"."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        saved = {**defaults, **other}  # a field that did not exist yet had its default
        return [
            f"{name}: {saved[name]} → {value}"
            for name, value in self.to_dict().items()
            if name not in _FREE_ON_RESUME and saved[name] != value
        ]
