"""Positions as rotations of queries and keys: RoPE (https://arxiv.org/abs/2104.09864).

The third of three places where a position can enter attention. Each pair of numbers is a point in a plane;
position p turns it by the angle p·θ_i. A query at m and a key at n then meet at the angle (m - n)·θ_i, so their
score depends on the distance alone. Pairs are (i, i + D/2), the half-split layout of Hugging Face's Llama, not
the neighbours (2i, 2i + 1) of the paper; the two differ by a fixed permutation of the weights. R counts the pairs,
D/2 of them unless only a part of each head is turned.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary positions are stretched to read beyond the length they were trained at.

    ``linear`` divides every position by ``factor`` (https://arxiv.org/abs/2306.15595); ``ntk`` raises the base so
    that the slowest rotation is stretched by ``factor`` and the fastest hardly at all; ``yarn`` interpolates by
    wavelength and sharpens the scores (https://arxiv.org/abs/2309.00071); ``llama3`` interpolates by wavelength as
    Llama 3.1 does (https://arxiv.org/abs/2407.21783): pairs that turn more than ``high_freq_factor`` times over the
    original length are kept, those that turn less than ``low_freq_factor`` times are stretched, and between them a
    ramp is linear in the turns. Only "llama3" takes, and needs, the two factors.
    """

    kind: Literal["linear", "ntk", "yarn", "llama3"]
    factor: float
    original_max_seq_len: int
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None

    def __post_init__(self):
        if self.kind not in ("linear", "ntk", "yarn", "llama3"):
            raise ValueError(f"kind={self.kind!r} is not one of 'linear', 'ntk', 'yarn', 'llama3'")
        bounds = self.low_freq_factor, self.high_freq_factor
        if self.kind != "llama3" and bounds != (None, None):
            raise ValueError(f"low_freq_factor and high_freq_factor are for 'llama3'; kind={self.kind!r} has none")
        if self.kind == "llama3":
            numbers = all(isinstance(bound, int | float) for bound in bounds)
            if not (numbers and 0 < self.low_freq_factor < self.high_freq_factor < math.inf):
                raise ValueError(
                    f"low_freq_factor, high_freq_factor={bounds}: give two positive numbers, the lower first"
                )
        if not (isinstance(self.factor, int | float) and 1 <= self.factor < math.inf):
            raise ValueError(f"factor={self.factor!r} cannot stretch a context; give a finite factor of at least 1")
        if not isinstance(self.original_max_seq_len, int) or self.original_max_seq_len < 1:
            raise ValueError(f"original_max_seq_len={self.original_max_seq_len!r} must be a whole number of at least 1")


def rope_frequencies(d_head: int, *, base: float = 10_000.0, scaling: RopeScaling | None = None) -> Float[Tensor, "R"]:
    """Radians per position of each pair, fastest first: θ_i = base^(-2i/D), stretched as ``scaling`` says.

    Raises ValueError for an odd ``d_head``, and for "ntk" with a single pair, which is fastest and slowest at once.
    """
    if d_head % 2:
        raise ValueError(f"d_head={d_head} must be even: rotations act on pairs")
    if scaling is not None and scaling.kind == "ntk":
        if d_head == 2:
            raise ValueError(
                "kind='ntk' stretches the slow pairs and spares the fast: d_head=2 is one pair, use 'linear'"
            )
        base = base * scaling.factor ** (d_head / (d_head - 2))
    theta = base ** -(torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)
    if scaling is None or scaling.kind == "ntk":
        return theta
    if scaling.kind == "linear":
        return theta / scaling.factor
    if scaling.kind == "llama3":
        return _llama3(theta, scaling)
    return _yarn(theta, d_head, base, scaling)


def _llama3(theta: Tensor, scaling: RopeScaling) -> Tensor:
    turns = scaling.original_max_seq_len * theta / (2 * math.pi)  # [R], over the original length
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 0 interpolates, 1 keeps
    return theta / scaling.factor * (1 - keep) + theta * keep


def _yarn(theta: Tensor, d_head: int, base: float, scaling: RopeScaling, fast=32.0, slow=1.0) -> Tensor:
    """Keep pairs that turn more than ``fast`` times over the trained length, interpolate those below ``slow``."""

    def pair_turning(turns: float) -> float:
        return d_head * math.log(scaling.original_max_seq_len / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(pair_turning(fast)), 0), min(math.ceil(pair_turning(slow)), d_head - 1)
    ramp = ((torch.arange(d_head // 2) - low) / max(high - low, 1e-3)).clamp(0, 1)  # 0 keeps, 1 interpolates
    return theta * (1 - ramp) + theta / scaling.factor * ramp


class Rotary(nn.Module):
    """Turns a position into the cosines and sines that ``rotate`` needs; holds no parameter."""

    def __init__(self, *, d_head: int, base: float = 10_000.0, scaling: RopeScaling | None = None):
        super().__init__()
        self.d_head, self.base, self.scaling = d_head, base, scaling
        self.register_buffer("frequencies", rope_frequencies(d_head, base=base, scaling=scaling), persistent=False)
        # YaRN also sharpens the scores; scaling cosines and sines scales q and k alike.
        yarn = scaling is not None and scaling.kind == "yarn"
        self.amplitude = 0.1 * math.log(scaling.factor) + 1 if yarn else 1.0

    def _apply(self, fn, recurse=True):
        """A model cast to bf16 keeps its angles in fp32: position 1000 times a rounded frequency is a wrong angle."""
        super()._apply(fn, recurse)
        exact = rope_frequencies(self.d_head, base=self.base, scaling=self.scaling)
        self.frequencies = exact.to(self.frequencies.device)
        return self

    def forward(self, positions: Int[Tensor, "B T"]) -> tuple[Float[Tensor, "B 1 T R"], Float[Tensor, "B 1 T R"]]:
        angles = (positions[..., None].float() * self.frequencies)[:, None]  # [B, 1, T, D/2]
        return angles.cos() * self.amplitude, angles.sin() * self.amplitude


def rotate(
    x: Float[Tensor, "B H T D"], cos: Float[Tensor, "#B 1 T R"], sin: Float[Tensor, "#B 1 T R"]
) -> Float[Tensor, "B H T D"]:
    """Turn each pair (x_i, x_{i+R}) by its angle: (x cos - y sin, y cos + x sin). What lies beyond the 2 R numbers
    that have an angle is left as it is."""
    n_turned = 2 * cos.shape[-1]
    turned, rest = x[..., :n_turned], x[..., n_turned:]
    a, b = turned.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    both = (a * cos - b * sin, b * cos + a * sin)
    return torch.cat((*both, rest) if rest.shape[-1] else both, dim=-1)
