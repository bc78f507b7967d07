"""Which parameters train: named by the dotted names of the modules they belong to.

A name is a pattern as ``llmbook.model.parts`` says, and means every parameter that is called so or lies in a module
that is: ``"blocks.0"`` is all of the first block, ``"q_proj"`` all query projections, ``"*_norm"`` all norms. A tied
tensor goes by all of its names.
"""

from dataclasses import dataclass

from torch import nn

from llmbook.model.parts import lies_in


@dataclass(frozen=True, kw_only=True)
class TrainableReport:
    """What training will adjust: names of the trainable parameters with their sizes, and the size of the model."""

    sizes: dict[str, int]
    n_total: int

    @property
    def n_trainable(self) -> int:
        return sum(self.sizes.values())

    def __str__(self) -> str:
        share = self.n_trainable / max(self.n_total, 1)
        return f"{self.n_trainable:,} of {self.n_total:,} parameters train ({share:.2%})"


def freeze(model: nn.Module, *patterns: str) -> None:
    """Take the matching parameters out of training; without a pattern, all.

    Raises:
        ValueError: a pattern matches nothing; then nothing has changed.
    """
    for parameter in _matching(model, patterns):
        parameter.requires_grad = False
        parameter.grad = None  # or an optimiser would still move it by an old gradient


def unfreeze(model: nn.Module, *patterns: str) -> None:
    """Put the matching parameters (back) into training; without a pattern, all. Raises as ``freeze``."""
    for parameter in _matching(model, patterns):
        parameter.requires_grad = True


def trainable_report(model: nn.Module) -> TrainableReport:
    """What ``training.parameter_groups`` would hand to the optimiser; a tied tensor counts once."""
    return TrainableReport(
        sizes={name: p.numel() for name, p in model.named_parameters() if p.requires_grad},
        n_total=sum(p.numel() for p in model.parameters()),
    )


def _matching(model: nn.Module, patterns: tuple[str, ...]) -> list[nn.Parameter]:
    named = list(model.named_parameters(remove_duplicate=False))  # a tied tensor under each of its names
    found = [parameter for _, parameter in named] if not patterns else []
    for pattern in patterns:
        hits = [parameter for name, parameter in named if lies_in(name, pattern)]
        if not hits:
            raise ValueError(f"no parameter matches {pattern!r}; there are {', '.join(_summary(n for n, _ in named))}")
        found += hits
    return found


def _summary(names) -> list[str]:
    """Every name once, the numbers of layers replaced by *, so that a deep model fits into a message."""
    return list(dict.fromkeys(".".join("*" if part.isdigit() else part for part in name.split(".")) for name in names))
