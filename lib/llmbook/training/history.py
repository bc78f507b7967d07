"""What happened in a run: plain lists of plain numbers, ready for a plot, a JSON file or a checkpoint."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Self


@dataclass(kw_only=True)
class History:
    """One entry per optimiser step that had a target, and one per evaluation.

    steps: 1, 2, 3, … train_loss: nats per target of that step. lr: its learning rate. grad_norm: the norm of the
    gradient before clipping (0 where a float16 step overflowed and was skipped). tokens: targets seen so far.
    seconds: since the run began, evaluations included; exact where losses are read, every ``log_every`` steps.
    valid_steps, valid_loss: the evaluations; step 0 is before any training.
    """

    steps: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    valid_steps: list[int] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)

    @property
    def best_valid_loss(self) -> float:
        return min(self.valid_loss, default=float("inf"))

    def add(self, step: int, loss: float, *, lr: float, grad_norm: float, n_targets: int, seconds: float) -> None:
        """What one step has shown."""
        self.steps.append(step)
        self.train_loss.append(loss)
        self.lr.append(lr)
        self.grad_norm.append(grad_norm)
        self.tokens.append(n_targets + (self.tokens[-1] if self.tokens else 0))
        self.seconds.append(seconds)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        return cls(**{name: list(entries) for name, entries in values.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls.from_dict(json.loads(text))
