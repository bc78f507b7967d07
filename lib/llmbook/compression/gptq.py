r"""Rounding a matrix so that its *outputs* stay close, not its weights: GPTQ (https://arxiv.org/abs/2210.17323).

The columns of W are rounded one after another. What the rounding of column k does to the outputs Wx is made up for, as
well as it can be, by the columns that are not rounded yet. How to do that depends on which inputs occur together, that
is, on H = Σ x xᵀ over some calibration text. With H⁻¹ = UᵀU (U upper triangular), after column k

$$W_{:,j} \leftarrow W_{:,j} - \frac{W_{:,k} - \hat W_{:,k}}{U_{kk}}\, U_{kj} \qquad (j > k).$$

Where the inputs are independent of each other, H is diagonal and nothing is moved: plain rounding. The published
program does the same in blocks of columns, for speed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from llmbook.compression.quantise import Quantised, check_groups, check_matrix


def quantise_by_outputs(
    weight: Float[Tensor, "N K"],
    inputs: Float[Tensor, "n K"],
    *,
    bits: int = 4,
    group_size: int = 32,
    damping: float = 0.01,
) -> Quantised:
    """Groups from minimum to maximum as in ``quantise_groups``, the codes chosen for the outputs at ``inputs``.

    damping: the share of the mean of H's diagonal that is added to the diagonal, so that H has an inverse.

    Raises:
        ValueError: as ``quantise_groups``; ``inputs`` has another width than the weight, or ``damping`` is not above 0.
    """
    check_matrix(weight, bits)
    check_groups(weight.shape[1], group_size)
    if inputs.ndim != 2 or inputs.shape[1] != weight.shape[1]:
        raise ValueError(
            f"inputs have shape {tuple(inputs.shape)}: give rows of {weight.shape[1]} numbers, one a token"
        )
    if damping <= 0:
        raise ValueError(f"damping={damping}: give a small number above 0, such as 0.01")
    left = weight.detach().double().clone()  # a copy: the columns to the right of k change
    spread = _spread(inputs.to(left), damping)
    codes, scales, zeros = torch.empty_like(left), [], []
    for k in range(left.shape[1]):
        if k % group_size == 0:
            low, high = left[:, k : k + group_size].aminmax(dim=1)
            scales.append(((high - low) / (2**bits - 1)).to(weight.dtype))
            zeros.append(low.to(weight.dtype))
        scale, zero = scales[-1].double(), zeros[-1].double()
        codes[:, k] = ((left[:, k] - zero) / scale.masked_fill(scale == 0, 1)).round().clamp(0, 2**bits - 1)
        error = (left[:, k] - codes[:, k] * scale - zero) / spread[k, k]  # [N]
        left[:, k + 1 :] -= error[:, None] * spread[k, k + 1 :]
    stacked = {"scales": torch.stack(scales, dim=1), "zeros": torch.stack(zeros, dim=1)}  # [N, G]
    return Quantised(codes=codes.to(torch.uint8), **stacked, group_size=group_size, bits=bits)


def _spread(inputs: Float[Tensor, "n K"], damping: float) -> Float[Tensor, "K K"]:
    """U of the module's docstring: row k says how an error in column k is shared among the columns after it."""
    hessian = inputs.T @ inputs  # [K, K]
    mean = hessian.diagonal().mean()
    hessian.diagonal().add_(damping * (mean if mean > 0 else 1))
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
