r"""Linear layers that hold whole numbers: weight-only quantisation at 8 and 4 bits.

    y = x · dequantise(codes)ᵀ + bias

Activations stay floating-point; only the weights are small. At batch 1 a token takes the time to read every weight
once, so a weight of a quarter or an eighth of the bytes is worth a speed-up of that order, provided the kernel reads
the codes themselves. ``kernel="plain"`` writes the formula out: it computes the floating-point weight at every call,
runs on any device and is the reference. ``kernel="packed"`` hands the codes to PyTorch's weight-only CPU kernels, which
compute in bfloat16. The layers keep their codes in buffers, so a saved model is as small as the one in memory.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.compression.quantise import (
    Quantised,
    check_groups,
    pack_nibbles,
    quantise_absmax,
    quantise_groups,
    unpack_nibbles,
)
from llmbook.cpu import weight_only

Kernel = Literal["plain", "packed"]
SCALE_DTYPE = torch.bfloat16  # what the CPU kernels take; both kernels then see the very same weight


class QuantisedLinear(nn.Module):
    """What the two layers share; begin with ``Int8Linear``.

    Raises ValueError for an unknown ``kernel``, and when the packed one is called on another device than the CPU.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool, kernel: Kernel):
        super().__init__()
        if kernel not in get_args(Kernel):
            raise ValueError(f"kernel={kernel!r} is not one of {', '.join(map(repr, get_args(Kernel)))}")
        self.in_features, self.out_features, self.kernel = in_features, out_features, kernel
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        self._arranged: tuple | None = None  # what the packed kernel takes, once it has been asked for

    def quantised(self) -> Quantised:
        """The weight this layer multiplies by."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "*P K"]) -> Float[Tensor, "*P N"]:
        if self.kernel == "plain":
            weight = self.quantised().dequantise().to(x.dtype)  # [N, K]
            return F.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))
        if not x.is_cpu:
            raise ValueError(
                f"kernel='packed' runs on the CPU alone and the input is on {x.device}: use kernel='plain'"
            )
        arranged = self._arranged
        if arranged is None:
            arranged = self._arranged = self._arrange()
        rows = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        if x.dtype != torch.bfloat16:  # float32 would be ten times slower
            rows = rows.to(torch.bfloat16)
        out = self._product(rows.contiguous(), *arranged)
        if x.dtype != torch.bfloat16:
            out = out.to(x.dtype)
        if self.bias is not None:
            out = out + self.bias.to(x.dtype)
        return out if x.ndim == 2 else out.view(*x.shape[:-1], self.out_features)

    def _arrange(self) -> tuple:
        raise NotImplementedError

    @staticmethod
    def _product(rows: Tensor, *arranged: Tensor) -> Tensor:
        raise NotImplementedError

    def _apply(self, fn, recurse=True):
        self._arranged = None  # the buffers move: arrange them again
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args, **kwargs):
        self._arranged = None  # other codes
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict:
        """What copies and pickles take along: the arrangement belongs to this processor and is made again."""
        return {**self.__dict__, "_arranged": None}

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, kernel={self.kernel!r}"


class Int8Linear(QuantisedLinear):
    """A linear layer of 8-bit codes with one scale for each output (``quantise_absmax``)."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, kernel: Kernel = "plain"):
        super().__init__(in_features, out_features, bias=bias, kernel=kernel)
        self.register_buffer("codes", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(out_features, 1, dtype=SCALE_DTYPE))

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, kernel: Kernel = "plain") -> "Int8Linear":
        """The layer with codes in place of ``linear``'s weight, on its device."""
        made = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, kernel=kernel)
        quantised = quantise_absmax(linear.weight.detach(), dtype=SCALE_DTYPE)
        made.codes, made.scales = quantised.codes, quantised.scales
        made.bias = None if linear.bias is None else linear.bias.detach().clone()
        return made

    def quantised(self) -> Quantised:
        return Quantised(codes=self.codes, scales=self.scales, bits=8)

    def _arrange(self) -> tuple[Tensor, Tensor]:
        return self.codes, self.scales[:, 0].to(SCALE_DTYPE)

    @staticmethod
    def _product(rows: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
        return weight_only.product_int8(rows, codes, scales)


class Int4Linear(QuantisedLinear):
    """A linear layer of 4-bit codes, two in a byte, with a scale and a zero for each group (``quantise_groups``).

    The packed kernel reads the codes in an order of its own: a second copy, made at the first call and never saved.
    Raises ValueError where ``QuantisedLinear`` does, for a ``group_size`` other than 32, 64 and 128 or no divisor of
    ``in_features``, and for ``out_features`` that are no multiple of the packed kernel's 16.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        group_size: int = 32,
        bias: bool = True,
        kernel: Kernel = "plain",
    ):
        super().__init__(in_features, out_features, bias=bias, kernel=kernel)
        check_groups(in_features, group_size)
        if kernel == "packed" and out_features % 16:
            raise ValueError(
                f"out_features={out_features} is not a multiple of 16, as the packed 4-bit kernel needs: "
                "use kernel='plain', or 8 bits"
            )
        self.group_size = group_size
        n_groups = in_features // group_size
        self.register_buffer("codes", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        self.register_buffer("scales", torch.zeros(out_features, n_groups, dtype=SCALE_DTYPE))
        self.register_buffer("zeros", torch.zeros(out_features, n_groups, dtype=SCALE_DTYPE))

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, group_size: int = 32, kernel: Kernel = "plain") -> "Int4Linear":
        """The layer with codes in place of ``linear``'s weight, on its device."""
        quantised = quantise_groups(linear.weight.detach(), bits=4, group_size=group_size, dtype=SCALE_DTYPE)
        made = cls(
            linear.in_features,
            linear.out_features,
            group_size=group_size,
            bias=linear.bias is not None,
            kernel=kernel,
        )
        made.codes, made.scales, made.zeros = pack_nibbles(quantised.codes), quantised.scales, quantised.zeros
        made.bias = None if linear.bias is None else linear.bias.detach().clone()
        return made

    def quantised(self) -> Quantised:
        codes = unpack_nibbles(self.codes)
        return Quantised(codes=codes, scales=self.scales, zeros=self.zeros, group_size=self.group_size, bits=4)

    def _arrange(self) -> tuple[Tensor, int, Tensor]:
        """The kernel undoes a code by s (c − 8) + z, so its z is the number that code 8 stands for."""
        codes = weight_only.laid_out_int4(unpack_nibbles(self.codes))
        middle = self.zeros.float() + 8 * self.scales.float()
        pairs = torch.stack((self.scales.float(), middle), dim=2).transpose(0, 1)  # [G, N, 2]
        return codes, self.group_size, pairs.to(SCALE_DTYPE).contiguous()

    @staticmethod
    def _product(rows: Tensor, codes: Tensor, group_size: int, scales_and_zeros: Tensor) -> Tensor:
        return weight_only.product_int4(rows, codes, group_size, scales_and_zeros)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group_size={self.group_size}"
