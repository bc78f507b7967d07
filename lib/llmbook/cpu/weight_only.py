"""Products of bfloat16 rows with weights held as 8- or 4-bit codes, which are read as they are."""

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Int, UInt8
from torch import Tensor

_INT8 = getattr(torch, "_weight_int8pack_mm", None)
_INT4 = getattr(torch, "_weight_int4pack_mm_for_cpu", None)
_LAY_OUT_INT4 = getattr(torch, "_convert_weight_to_int4pack_for_cpu", None)


def product_int8(
    rows: BFloat16[Tensor, "B K"], codes: Int[Tensor, "N K"], scales: BFloat16[Tensor, "N"]
) -> BFloat16[Tensor, "B N"]:
    """x (s · codes)ᵀ."""
    if _INT8 is None:
        return F.linear(rows, codes.to(rows.dtype)) * scales
    return _INT8(rows, codes, scales)


def laid_out_int4(codes: UInt8[Tensor, "N K"]) -> Tensor:
    """Codes from 0 to 15 in the order in which ``product_int4`` reads them."""
    if _INT4 is None or _LAY_OUT_INT4 is None:
        return codes
    return _LAY_OUT_INT4(codes.int(), 1)


def product_int4(
    rows: BFloat16[Tensor, "B K"], codes: Tensor, group_size: int, scales_and_zeros: BFloat16[Tensor, "G N 2"]
) -> BFloat16[Tensor, "B N"]:
    """x Wᵀ with W = s (codes − 8) + z in groups of K, for codes from ``laid_out_int4``."""
    if _INT4 is not None and _LAY_OUT_INT4 is not None:
        return _INT4(rows, codes, group_size, scales_and_zeros)
    scales, zeros = scales_and_zeros.float().transpose(0, 1).unsqueeze(2).unbind(-1)  # each [N, G, 1]
    weight = (codes.float() - 8).unflatten(1, (-1, group_size)) * scales + zeros  # [N, G, K / G]
    return F.linear(rows.float(), weight.flatten(1)).to(rows.dtype)
