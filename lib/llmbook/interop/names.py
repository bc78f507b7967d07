"""Two-way tables of names: which of their tensors is which of ours.

No weight is changed on the way but for layout: a file may hold a matrix transposed, or several of ours in one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOKENS, HEAD = "body.embeddings.tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Entry:
    """One of their tensors is one of ours, or several of ours stacked; ``{i}`` stands for the layer."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Family:
    """The names of one architecture: tensors outside the layers, tensors of layer ``{i}``, tensors left aside."""

    outside: tuple[Entry, ...]
    layer: tuple[Entry, ...]
    unused: tuple[str, ...] = ()

    def entries(self, n_layers: int) -> list[Entry]:
        def at(entry: Entry, i: int) -> Entry:
            return Entry(entry.theirs.format(i=i), tuple(n.format(i=i) for n in entry.ours), entry.transposed)

        return [*self.outside, *(at(e, i) for i in range(n_layers) for e in self.layer)]


def pairs(*names: tuple[str, str], parameters: tuple[str, ...] = ("weight", "bias")) -> tuple[Entry, ...]:
    """Modules that carry the same parameters under two names."""
    return tuple(Entry(f"{theirs}.{p}", (f"{ours}.{p}",)) for theirs, ours in names for p in parameters)


def translate(weights: dict[str, Tensor], table: Family, *, family: str, n_layers: int) -> dict[str, Tensor]:
    """Their state dict under our names. A tied output projection that is left out is filled in.

    ``family`` is what an error calls the model.

    Raises:
        ValueError: a tensor is missing or unknown; the first names are given.
    """
    left = dict(weights)
    theirs = {entry.ours: entry.theirs for entry in table.outside}
    tokens, head = theirs.get((TOKENS,)), theirs.get((HEAD,))
    if head is not None and head not in left and tokens in left:
        left[head] = left[tokens]
    ours, missing = {}, []
    for entry in table.entries(n_layers):
        tensor = left.pop(entry.theirs, None)
        if tensor is None:
            missing.append(entry.theirs)
            continue
        tensor = tensor.t() if entry.transposed else tensor
        ours.update(zip(entry.ours, tensor.chunk(len(entry.ours)), strict=True))
    unknown = [name for name in left if name not in table.unused]
    if missing or unknown:
        raise ValueError(
            f"not the weights of a {family} model with {n_layers} layers: "
            f"missing {missing[:4]}, unknown {unknown[:4]} ({len(missing)} and {len(unknown)} in all)"
        )
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def translate_back(weights: dict[str, Tensor], table: Family, *, n_layers: int) -> dict[str, Tensor]:
    """Our state dict under their names: the inverse of ``translate``.

    Raises:
        ValueError: a tensor is missing; the first names are given.
    """
    theirs, entries = {}, table.entries(n_layers)
    if missing := [name for entry in entries for name in entry.ours if name not in weights]:
        raise ValueError(f"the model has no {', '.join(missing[:4])} ({len(missing)} in all): it is of another family")
    for entry in entries:
        tensor = torch.cat([weights[name] for name in entry.ours])
        theirs[entry.theirs] = (tensor.t() if entry.transposed else tensor).contiguous()
    return theirs


def require(values: dict[str, Any], family: str, **settings: Any) -> None:
    """Refuse a foreign configuration that asks for what ours cannot do; a setting left out is at its default.

    Raises:
        ValueError: naming the setting, what it is and what it may be.
    """
    for name, supported in settings.items():
        if (found := values.get(name, supported)) != supported:
            raise ValueError(f"{family} with {name}={found!r} is not supported, only {supported!r}")
