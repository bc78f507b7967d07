"""A whole model quantised: its linear layers replaced by name, and what that saved.

The embedding stays as it is: reading one row costs nothing. A head tied to it (https://arxiv.org/abs/1608.05859) is
skipped by default; named for quantising, it becomes a quantised *copy*, since one table cannot be both the floats the
embedding looks up and the codes the head multiplies. Sensitive layers may keep more bits: quantise with 4 bits first
and name what to skip, then quantise what is left with 8.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from llmbook.compression.by_name import linear_layers
from llmbook.compression.linear import Int4Linear, Int8Linear, Kernel
from llmbook.model.parts import replace_part


@dataclass(frozen=True, kw_only=True)
class QuantisationReport:
    """What quantising a model saved, in bytes.

    Attributes:
        parts: for each replaced layer, by its dotted name, the bytes before and after. A weight another part still
            holds (a tied table) counts 0 before: giving it up frees nothing.
        before, after: the whole model, shared weights counted once.
    """

    parts: dict[str, tuple[int, int]]
    before: int
    after: int

    def __str__(self) -> str:
        return (
            f"{len(self.parts)} layers: {self.before / 1e6:.1f} MB -> {self.after / 1e6:.1f} MB, "
            f"{self.before / self.after:.2f} times smaller"
        )


def quantise_model(
    model: nn.Module,
    *,
    bits: int = 8,
    group_size: int | None = None,
    skip: str | Sequence[str] = ("lm_head",),
    kernel: Kernel = "plain",
) -> QuantisationReport:
    """Replace every ``nn.Linear`` in ``model``, in place, by one that holds codes.

    The same call on a freshly built model makes the layers a quantised ``state_dict`` loads into.

    Args:
        bits: 8 (a scale for each output) or 4 (a scale and a zero for each group).
        group_size: of the 4-bit groups: 32 (unless given), 64 or 128.
        skip: layers that stay as they are, or parts all of whose layers do; names as in ``llmbook.model.parts``.
        kernel: how the new layers compute, see ``llmbook.compression.linear``.

    Raises:
        ValueError: an option is out of range, a name in ``skip`` is none of the model's, a layer does not divide into
            groups, or no layer is left to quantise. The model is then unchanged.
    """
    if bits not in (8, 4):
        raise ValueError(f"bits={bits!r}: there are linear layers of 8 and of 4 bits")
    if bits == 8 and group_size is not None:
        raise ValueError(f"group_size={group_size} has no meaning at 8 bits, where each output has one scale")
    group_size = 32 if group_size is None else group_size
    linears = linear_layers(model, skip)
    before = _n_bytes(model)
    replacements = {name: _quantised(name, layer, bits, group_size, kernel) for name, layer in linears.items()}
    for name, layer in replacements.items():
        replace_part(model, name, layer)
    kept = {id(parameter) for parameter in model.parameters()}
    parts = {
        name: (sum(p.nbytes for p in linears[name].parameters() if id(p) not in kept), _n_bytes(layer))
        for name, layer in replacements.items()
    }
    return QuantisationReport(parts=parts, before=before, after=_n_bytes(model))


def _quantised(name: str, layer: nn.Linear, bits: int, group_size: int, kernel: Kernel) -> Int8Linear | Int4Linear:
    try:
        if bits == 8:
            return Int8Linear.from_linear(layer, kernel=kernel)
        return Int4Linear.from_linear(layer, group_size=group_size, kernel=kernel)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _n_bytes(module: nn.Module) -> int:
    """What a saved ``state_dict`` holds; a tensor under two names counts once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in module.state_dict().values()}.values())
