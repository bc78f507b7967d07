"""Matrices laid out once for the product with a single row.

At batch 1 a product takes as long as reading its matrix, if it reads the matrix in the order it lies in memory. torch's
product with one row of bfloat16 does not: it is made for many rows. oneDNN, which torch carries, cuts the matrix into
blocks and then reads block by block; that is done once, before the first token (the benchmarks say what it saves). The
blocks are a second copy of every matrix; what they hold is the same, so the outputs differ by rounding alone.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.cpu import onednn
from llmbook.model.parts import replace_part

PACKABLE = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Linear):
    """``nn.Linear`` that multiplies by a copy of its weight in oneDNN's layout, made at the first call.

    The copy is used on the CPU, in float32 and bfloat16, while no gradient is wanted; elsewhere the layer does what
    ``nn.Linear`` does. A weight that has changed, in place or for another, is laid out again, where torch counts its
    changes: not behind ``weight.data``, nor for a weight made under ``torch.inference_mode``. Pack again after those.
    """

    def __init__(self, linear: nn.Linear):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._packed: Tensor | None = None
        self._packed_of: tuple[Tensor | None, int] = (None, 0)  # the weight, and how often it had been changed

    def forward(self, x: Float[Tensor, "*P K"]) -> Float[Tensor, "*P N"]:
        weight, bias = self.weight, self.bias
        if torch.compiler.is_compiling():  # torch lays it out itself
            return F.linear(x, weight, bias)
        if torch.is_grad_enabled() or not x.is_cpu or x.dtype not in PACKABLE or torch.is_autocast_enabled("cpu"):
            return F.linear(x, weight, bias)
        version = 0 if weight.is_inference() else weight._version
        if self._packed_of[0] is not weight or self._packed_of[1] != version:
            self._packed = onednn.laid_out(weight.detach())
            self._packed_of = weight, version
        return onednn.product_laid_out(x, self._packed, bias)

    def _apply(self, fn, recurse=True):
        self._packed, self._packed_of = None, (None, 0)  # another device or dtype
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        """What copies and pickles take along: the layout belongs to this machine and is made again."""
        return {**self.__dict__, "_packed": None, "_packed_of": (None, 0)}


def pack_linears(model: nn.Module) -> None:
    """Make every ``nn.Linear`` of ``model`` a ``PackedLinear`` in place; weights and their names stay what they are.

    Raises:
        ValueError: this torch has no oneDNN, or no layer is left to pack (a quantised model packs its codes itself, by
            ``kernel="packed"``). The model is then unchanged.
    """
    if not onednn.available():
        raise ValueError("this torch was built without oneDNN, which packs the matrices: leave the model as it is")
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no nn.Linear to pack; quantised layers take kernel='packed'")
    for name, layer in layers.items():
        replace_part(model, name, PackedLinear(layer))
