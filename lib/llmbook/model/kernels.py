"""How a model's arithmetic is carried out: the same numbers by another road, chosen for a whole model at once."""

from typing import get_args

from torch import nn

from llmbook.cpu import onednn
from llmbook.model.attention import BACKENDS
from llmbook.model.linear import Linear, LinearKernel
from llmbook.model.multi_head import MultiHeadAttention

LINEAR_KERNELS: tuple[LinearKernel, ...] = get_args(LinearKernel)


def use_kernels(model: nn.Module, *, linear: str | None = None, attention: str | None = None) -> None:
    """Choose how the model's matrix products ("torch", "onednn") and attention ("sdpa", "eager") are computed.

    Results agree to rounding; only the time differs. None leaves a choice as it is. Layers that keep their weight in
    another form, such as quantised ones, have products of their own, which this leaves alone.

    Raises:
        ValueError: a kernel is unknown, or this torch does not have it.
    """
    if linear not in (None, *LINEAR_KERNELS):
        raise ValueError(f"linear={linear!r} is not one of {', '.join(map(repr, LINEAR_KERNELS))}")
    if linear == "onednn" and not onednn.available():
        raise ValueError("linear='onednn': this torch was built without oneDNN; use 'torch'")
    if attention not in (None, *BACKENDS):
        raise ValueError(f"attention={attention!r} is not one of {', '.join(map(repr, BACKENDS))}")
    for part in model.modules():
        if linear is not None and isinstance(part, Linear):
            part.kernel = linear
        if attention is not None and isinstance(part, MultiHeadAttention):
            part.backend = attention
