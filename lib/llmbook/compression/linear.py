r"""Linear layers that hold whole numbers: weight-only quantisation at 8 and 4 bits.

    y = x · dequantise(codes)ᵀ + bias

Activations stay floating-point; only the weights are small. At batch 1 a token takes the time to read every weight
once, so a weight of a quarter or an eighth of the bytes is worth a speed-up of that order, provided the kernel reads
the codes themselves. ``kernel="plain"`` writes the formula out: it makes a floating-point weight anew at every call,
runs on any device and is the reference. ``kernel="packed"`` hands the codes to PyTorch's weight-only CPU kernels, which
compute in bfloat16. The layers keep their codes in buffers, so a saved model is as small as the one in memory.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.compression.quantise import Quantised, pack_nibbles, quantise_absmax, quantise_groups, unpack_nibbles

Kernel = Literal["plain", "packed"]
SCALE_DTYPE = torch.bfloat16  # what the CPU kernels take; both kernels then see the very same weight


class Int8Linear(nn.Module):
    """A linear layer of 8-bit codes with one scale for each output (``quantise_absmax``)."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, kernel: Kernel = "plain"):
        super().__init__()
        _check_kernel(kernel)
        self.in_features, self.out_features, self.kernel = in_features, out_features, kernel
        self.register_buffer("codes", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(out_features, 1, dtype=SCALE_DTYPE))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

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

    def forward(self, x: Float[Tensor, "*P K"]) -> Float[Tensor, "*P N"]:
        if self.kernel == "plain":
            return _plain(x, self.quantised(), self.bias)
        rows = _rows(x)  # [P, K]
        out = torch._weight_int8pack_mm(rows, self.codes, self.scales[:, 0].to(rows.dtype))
        return _finish(out, x, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, kernel={self.kernel!r}"


class Int4Linear(nn.Module):
    """A linear layer of 4-bit codes, two in a byte, with a scale and a zero for each group (``quantise_groups``)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        group_size: int = 32,
        bias: bool = True,
        kernel: Kernel = "plain",
    ):
        super().__init__()
        _check_kernel(kernel)
        if kernel == "packed" and out_features % 16:
            raise ValueError(
                f"out_features={out_features} is not a multiple of 16, as the packed 4-bit kernel needs: "
                "use kernel='plain', or 8 bits"
            )
        self.in_features, self.out_features = in_features, out_features
        self.group_size, self.kernel = group_size, kernel
        n_groups = in_features // group_size
        self.register_buffer("codes", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        self.register_buffer("scales", torch.zeros(out_features, n_groups, dtype=SCALE_DTYPE))
        self.register_buffer("zeros", torch.zeros(out_features, n_groups, dtype=SCALE_DTYPE))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        self._arranged: tuple[Tensor, Tensor] | None = None

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

    def forward(self, x: Float[Tensor, "*P K"]) -> Float[Tensor, "*P N"]:
        if self.kernel == "plain":
            return _plain(x, self.quantised(), self.bias)
        rows = _rows(x)  # [P, K]
        if self._arranged is None:
            self._arranged = self._arrange()
        codes, scales_and_zeros = self._arranged
        out = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, codes, self.group_size, scales_and_zeros)
        return _finish(out, x, self.bias)

    def _arrange(self) -> tuple[Tensor, Tensor]:
        """The kernel's own order of the codes, and what undoes them: s (c − 8) + z, so its z is that of code 8."""
        codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unpack_nibbles(self.codes).int(), 1)
        middle = self.zeros.float() + 8 * self.scales.float()
        pairs = torch.stack((self.scales.float(), middle), dim=2).transpose(0, 1)  # [G, N, 2]
        return codes, pairs.to(SCALE_DTYPE).contiguous()

    def _apply(self, fn, recurse=True):
        self._arranged = None  # the buffers move: arrange them anew
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args, **kwargs):
        self._arranged = None  # other codes
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, group_size={self.group_size}, "
            f"bias={self.bias is not None}, kernel={self.kernel!r}"
        )


def _plain(x: Tensor, quantised: Quantised, bias: Tensor | None) -> Tensor:
    weight = quantised.dequantise().to(x.dtype)  # [N, K]
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))


def _rows(x: Tensor) -> Float[Tensor, "P K"]:
    """The positions as rows in bfloat16: in any other precision the kernels take a path ten times slower."""
    if x.device.type != "cpu":
        raise ValueError(f"kernel='packed' runs on the CPU alone and the input is on {x.device}: use kernel='plain'")
    return x.reshape(-1, x.shape[-1]).to(torch.bfloat16)


def _finish(out: Float[Tensor, "P N"], x: Tensor, bias: Tensor | None) -> Float[Tensor, "*P N"]:
    """Back to the input's leading axes and precision; the bias is added there."""
    out = out.view(*x.shape[:-1], -1).to(x.dtype)
    return out if bias is None else out + bias.to(x.dtype)


def _check_kernel(kernel: str) -> None:
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel={kernel!r} is not one of {', '.join(map(repr, get_args(Kernel)))}")
