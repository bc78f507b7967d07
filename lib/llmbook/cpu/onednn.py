"""Matrix products by oneDNN, the second library of products that torch carries."""

import torch
import torch.nn.functional as F
from torch import Tensor

_OPERATORS = torch.ops.mkldnn if torch.backends.mkldnn.is_available() else None
_PRODUCT = getattr(_OPERATORS, "_linear_pointwise", None)
_LAY_OUT = getattr(_OPERATORS, "_reorder_linear_weight", None)
_HAS_BFLOAT16 = getattr(_OPERATORS, "_is_mkldnn_bf16_supported", None)


def available() -> bool:
    """Whether this torch has oneDNN's products and layout."""
    return _PRODUCT is not None and _LAY_OUT is not None


def multiplies_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 natively on this processor."""
    return _HAS_BFLOAT16 is not None and _HAS_BFLOAT16()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b."""
    if _PRODUCT is None:
        return F.linear(x, weight, bias)
    return _PRODUCT(x, weight, bias, "none", [], "")


def laid_out(weight: Tensor) -> Tensor:
    """The weight in blocks, as ``product_laid_out`` reads it for a single row."""
    if _PRODUCT is None or _LAY_OUT is None:
        return weight
    return _LAY_OUT(weight, 1)


def product_laid_out(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b for a weight from ``laid_out``."""
    if _PRODUCT is None or _LAY_OUT is None:
        return F.linear(x, weight, bias)
    return _PRODUCT.default(x, weight, bias, "none", [], "")
