"""Two-way tables of names: which of their tensors is which of ours.

No weight is changed on the way but for layout: a file may hold a matrix transposed, or several of ours in one.
"""

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from llmbook.model import TransformerConfig


@dataclass(frozen=True)
class Entry:
    """One of their tensors is one of ours, or several of ours stacked; ``{i}`` stands for the layer.

    Attributes:
        transposed: theirs is [in, out].
        shares: for parts of unequal height the settings of ours they are proportional to ("n_heads", "n_kv_heads").
        skipped: rows at the top of theirs that stand for nothing.
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    shares: tuple[str, ...] = ()
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class Family:
    """The names of one kind of model.

    Attributes:
        architecture: their class, as ``config.json`` names it.
        model: the name of our class.
        outside: tensors outside the layers.
        layer: tensors of layer ``{i}``; ``decoder_layer``: the same of a second stack.
        copies: a tensor that is another one (tied weights): name → the other's name. A file may leave out either.
        prefix: what their names begin with in some files and not in others ("transformer.").
        unused: tensors that have no place in ours and change nothing we compute; ``*`` stands for any characters.
    """

    architecture: str
    outside: tuple[Entry, ...]
    layer: tuple[Entry, ...]
    model: str = "DecoderLM"
    decoder_layer: tuple[Entry, ...] = ()
    copies: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    unused: tuple[str, ...] = ()

    def entries(self, n_layers: int, n_decoder_layers: int | None = None) -> list[Entry]:
        """One entry for every tensor of a model of this depth; the second stack is as deep as the first by default."""

        def at(entry: Entry, i: int) -> Entry:
            return replace(entry, theirs=entry.theirs.format(i=i), ours=tuple(n.format(i=i) for n in entry.ours))

        depths = (n_layers, n_layers if n_decoder_layers is None else n_decoder_layers)
        layers = (
            at(e, i)
            for stack, n in zip((self.layer, self.decoder_layer), depths, strict=True)
            for i in range(n)
            for e in stack
        )
        return [*self.outside, *layers]


_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of norms, in files that come from TensorFlow


def pairs(*names: tuple[str, str], parameters: tuple[str, ...] = ("weight", "bias")) -> tuple[Entry, ...]:
    """Modules that carry the same parameters under two names."""
    return tuple(Entry(f"{theirs}.{p}", (f"{ours}.{p}",)) for theirs, ours in names for p in parameters)


def prefixed(entries: tuple[Entry, ...], theirs: str, ours: str) -> tuple[Entry, ...]:
    """The same entries for a model that is a part of a larger one on both sides."""
    return tuple(replace(e, theirs=theirs + e.theirs, ours=tuple(ours + name for name in e.ours)) for e in entries)


def translate(
    weights: dict[str, Tensor], family: Family, *, config: TransformerConfig | None = None, **depth: int | None
) -> dict[str, Tensor]:
    """Their state dict under our names; ``depth`` is ``n_layers`` and for a second stack ``n_decoder_layers``.

    ``config`` is needed where a table stacks parts of unequal height.

    Files of one model differ in names that change nothing: with or without the prefix, ``gamma`` for ``weight``,
    buffers that are computed. They are read alike.

    Raises:
        ValueError: a tensor is missing or unknown, one cannot be split as ours are, or two that are one here differ;
            the first names are given.
    """
    if max(n or 0 for n in depth.values()) > len(weights):
        raise ValueError(f"{max(n or 0 for n in depth.values())} layers cannot lie in {len(weights)} tensors")
    entries = family.entries(**depth)
    left = _usual_names(weights, family, {entry.theirs for entry in entries})
    for copy, original in (*family.copies.items(), *((o, c) for c, o in family.copies.items())):
        if copy not in left and original in left:
            left[copy] = left[original]
    ours, missing = {}, []
    for entry in entries:
        tensor = left.pop(entry.theirs, None)
        if tensor is None:
            missing.append(entry.theirs)
            continue
        for name, part in zip(entry.ours, rows_of(tensor, entry, config, family), strict=True):
            if name in ours and not torch.equal(ours[name], part):
                raise ValueError(f"{entry.theirs} differs from another tensor of the file that is the same {name} here")
            ours[name] = part
    unknown = [name for name in left if not any(fnmatchcase(name, pattern) for pattern in family.unused)]
    if missing or unknown:
        raise ValueError(
            f"not the weights of a {family.architecture} with {depth['n_layers']} layers: "
            f"missing {missing[:4]}, unknown {unknown[:4]} ({len(missing)} and {len(unknown)} in all)"
        )
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def rows_of(
    tensor: Tensor, entry: Entry, config: TransformerConfig | None, family: Family
) -> tuple[Tensor, ...] | list[Tensor]:
    """One of their tensors as ours, in parts. Raises ValueError if it cannot be divided so."""
    n_rows, shares = 0, [1] * len(entry.ours)
    if tensor.ndim:
        tensor = tensor.t() if entry.transposed and tensor.ndim == 2 else tensor
        tensor = tensor[entry.skipped :]
        n_rows = len(tensor)
    if entry.shares:
        if config is None:
            raise ValueError(f"{family.architecture} stacks parts of unequal height in {entry.theirs}: give config=")
        shares = [getattr(config, name) for name in entry.shares]
    if not n_rows or n_rows % sum(shares):
        raise ValueError(f"{entry.theirs} has shape {tuple(tensor.shape)}, which holds no {len(shares)} parts")
    return tensor.split([n_rows * share // sum(shares) for share in shares])


def _usual_names(weights: dict[str, Tensor], family: Family, known: set[str]) -> dict[str, Tensor]:
    """The file's tensors under the names of the table, where another spelling of one is there."""

    def usual(name: str) -> str:
        stem, _, last = name.rpartition(".")
        plain = f"{stem}.{_OLD_NAMES.get(last, last)}"
        forms = (name, plain, family.prefix + plain, plain.removeprefix(family.prefix))
        return next((form for form in forms if form in known), name)

    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        new = usual(name)
        if new in renamed:
            raise ValueError(f"the file holds {new} under two names, one of them {name}")
        renamed[new] = tensor
    return renamed


def translate_back(weights: dict[str, Tensor], family: Family, **depth: int | None) -> dict[str, Tensor]:
    """Our state dict under their names: the inverse of ``translate``.

    Raises:
        ValueError: a tensor is missing, or ours has one that theirs has no place for; the first names are given.
    """
    entries = family.entries(**depth)
    known = {name for entry in entries for name in entry.ours}
    missing, unknown = sorted(known - weights.keys()), sorted(weights.keys() - known)
    if missing or unknown:
        raise ValueError(
            f"no {family.architecture} with {depth['n_layers']} layers: missing {missing[:4]}, "
            f"unknown {unknown[:4]} ({len(missing)} and {len(unknown)} in all)"
        )
    theirs = {}
    for entry in entries:
        tensor = torch.cat([weights[name] for name in entry.ours])
        if entry.skipped:
            tensor = torch.cat([tensor.new_zeros(entry.skipped, *tensor.shape[1:]), tensor])
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


# Sizes that most kinds call alike: their name, ours.
SIZES = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_seq_len",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "d_ff",
}


def our_sizes(values: dict[str, Any]) -> dict[str, int]:
    """The sizes of their ``config.json`` under our names."""
    return {ours: values[theirs] for theirs, ours in SIZES.items()}


def their_sizes(config: TransformerConfig) -> dict[str, int]:
    """Our sizes under their names."""
    return {theirs: getattr(config, ours) for theirs, ours in SIZES.items()}
