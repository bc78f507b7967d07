r"""Weights as small whole numbers: absmax and group-wise quantisation, as pure functions.

Rounding w to the nearest of evenly spaced values costs at most half the spacing (the *step*), so the art is to
keep the step small where the numbers are small. One outlier sets the step of everything that shares its scale:
hence one scale for a tensor, for a row, or for a short group within a row, each finer and each with more scales
to store.

$$\text{absmax:}\quad s = \frac{\max|w|}{2^{b-1}-1},\quad c = \mathrm{round}(w/s),\quad \hat w = s\,c \qquad\quad
  \text{groups:}\quad s = \frac{\max w - \min w}{2^b-1},\quad c = \mathrm{round}\frac{w - \min w}{s},\quad
  \hat w = s\,c + \min w$$

Absmax is the scheme of https://arxiv.org/abs/2208.07339 (there with outliers kept apart). The group-wise scheme at
4 bits and groups of 32 is what GGUF files call Q4_1, which stores a scale and a minimum for each group in half
precision (https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c). A weight has the shape [N, K]: N outputs
(rows), K inputs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

GROUP_SIZES = (32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A weight [N, K] as codes, and what turns them back into numbers.

    Attributes:
        codes: [N, K] whole numbers, one a byte: signed around 0 (absmax) or from 0 to 2^bits − 1 (groups).
        scales: the step, broadcast over what shares it: [1, 1], [N, 1] or [N, K / group_size].
        zeros: the number that code 0 stands for, shaped like ``scales``; None where it is 0 (absmax).
        group_size: how many neighbours in a row share a scale; None: a whole row or tensor.
        bits: how many each code needs.
    """

    codes: Int8[Tensor, "N K"] | UInt8[Tensor, "N K"]
    scales: Float[Tensor, "n g"]
    zeros: Float[Tensor, "n g"] | None = None
    group_size: int | None = None
    bits: int

    def dequantise(self) -> Float[Tensor, "N K"]:
        """The numbers the codes stand for: in float32 also where the scales are shorter, because 127 s is longer."""
        exact = torch.promote_types(self.scales.dtype, torch.float32)
        codes = self.codes.unflatten(1, (self.scales.shape[1], -1)).to(exact)  # [N, G, K / G]
        weight = codes * self.scales[..., None].to(exact)
        if self.zeros is not None:
            weight = weight + self.zeros[..., None].to(exact)
        return weight.flatten(1)

    @property
    def n_bytes(self) -> int:
        """What it takes to store: the codes packed tightly, the scales and the zeros."""
        packed = -(-self.codes.numel() * self.bits // 8)
        return packed + self.scales.nbytes + (0 if self.zeros is None else self.zeros.nbytes)


def quantise_absmax(
    weight: Float[Tensor, "N K"],
    *,
    bits: int = 8,
    per: str = "channel",
    dtype: torch.dtype | None = None,
) -> Quantised:
    """Symmetric: codes −(2^(b−1) − 1) … 2^(b−1) − 1, the largest magnitude at the end, and 0 exactly 0.

    per: "tensor", one scale for all, or "channel", one for each of the N rows (outputs).
    dtype: of the stored scales, by default the weight's. They are rounded to it first: the codes are then chosen for
        the scales that will be there to undo them.

    Raises:
        ValueError: ``bits`` is not 2 to 8, ``per`` is unknown, the weight is no finite matrix of floats, or its
            scales are beyond ``dtype``.
    """
    check_matrix(weight, bits)
    if per not in ("tensor", "channel"):
        raise ValueError(f"per={per!r} is not one of 'tensor', 'channel'")
    largest = weight.abs().amax(1, keepdim=True) if per == "channel" else weight.abs().amax().view(1, 1)
    end = 2 ** (bits - 1) - 1
    scales = (largest / end).to(weight.dtype if dtype is None else dtype)  # [N, 1] or [1, 1]
    _check_range(scales)
    codes = (weight.double() / _divisor(scales)).round().clamp(-end, end)
    return Quantised(codes=codes.to(torch.int8), scales=scales, bits=bits)


def quantise_groups(
    weight: Float[Tensor, "N K"], *, bits: int = 4, group_size: int = 32, dtype: torch.dtype | None = None
) -> Quantised:
    """Asymmetric: each ``group_size`` neighbours in a row spread 2^b codes evenly from their minimum to their maximum.

    dtype: of the stored scales and zeros, by default the weight's; rounded first, as in ``quantise_absmax``.

    Raises:
        ValueError: ``bits`` is not 2 to 8, ``group_size`` not 32, 64 or 128 or no divisor of K, the weight is no
            finite matrix of floats, or its scales or zeros are beyond ``dtype``.
    """
    check_matrix(weight, bits)
    check_groups(weight.shape[1], group_size)
    grouped = weight.unflatten(1, (-1, group_size))  # [N, G, group_size]
    low, high = grouped.aminmax(dim=2)  # [N, G]
    dtype = weight.dtype if dtype is None else dtype
    scales, zeros = ((high - low) / (2**bits - 1)).to(dtype), low.to(dtype)
    _check_range(scales, zeros)
    steps = (grouped.double() - zeros[..., None]) / _divisor(scales)[..., None]
    codes = steps.round().clamp(0, 2**bits - 1).to(torch.uint8)
    return Quantised(codes=codes.flatten(1), scales=scales, zeros=zeros, group_size=group_size, bits=bits)


def pack_nibbles(codes: UInt8[Tensor, "N K"]) -> UInt8[Tensor, "N K2"]:
    """Two 4-bit codes in one byte: columns 0, 2, 4, … in the low halves, 1, 3, 5, … in the high ones; K2 = K / 2.

    Raises ValueError for an odd number of columns, and for a code above 15.
    """
    if codes.shape[1] % 2:
        raise ValueError(f"rows of {codes.shape[1]} codes do not pair up: give an even number of columns")
    if codes.numel() and codes.max() > 15:
        raise ValueError(f"code {int(codes.max())} does not fit into 4 bits: codes must be 0 to 15")
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def unpack_nibbles(packed: UInt8[Tensor, "N K2"]) -> UInt8[Tensor, "N K"]:
    """The inverse of ``pack_nibbles``."""
    return torch.stack((packed & 15, packed >> 4), dim=2).flatten(1)


def check_matrix(weight: Tensor, bits: int) -> None:
    """Raise ValueError unless the weight is a finite matrix of floats and ``bits`` a number of bits we know."""
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(
            f"the weight has shape {tuple(weight.shape)} and type {weight.dtype}: give a matrix [outputs, inputs] of "
            "floating-point numbers"
        )
    if bits not in range(2, 9):
        raise ValueError(f"bits={bits!r} is not a whole number from 2 to 8")
    if not weight.isfinite().all():
        where = tuple((~weight.isfinite()).nonzero()[0].tolist())
        raise ValueError(f"the weight holds {weight[where].item()} at {where}: only finite numbers have codes")


def check_groups(n_inputs: int, group_size: int) -> None:
    """Raise ValueError, with what would do, unless rows of ``n_inputs`` divide into such groups."""
    if group_size not in GROUP_SIZES:
        raise ValueError(f"group_size={group_size} is not one of {', '.join(map(str, GROUP_SIZES))}")
    if n_inputs % group_size:
        fits = [size for size in GROUP_SIZES if n_inputs % size == 0]
        advice = f"group_size={fits[-1]} would" if fits else f"no group size of {GROUP_SIZES} does; use quantise_absmax"
        raise ValueError(f"rows of {n_inputs} inputs are not divisible by group_size={group_size}: {advice}")


def _divisor(scales: Tensor) -> Tensor:
    """Where all numbers are equal the step is 0 and every code too; dividing by 1 finds just that."""
    return scales.double().masked_fill(scales == 0, 1)


def _check_range(*stored: Tensor) -> None:
    """An infinite scale would turn every weight it stands for into nan."""
    for tensor in stored:
        if not tensor.isfinite().all():
            raise ValueError(
                f"the weight's numbers are too large for scales in {tensor.dtype}: quantise weight.float(), with "
                "dtype=torch.float32"
            )
