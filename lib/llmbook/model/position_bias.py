"""Positions as a number added to each score before the softmax: ALiBi's fixed slopes, T5's learned buckets.

The second of three places where a position can enter attention. Both depend on the distance between query and
key alone, so they need no change when a prompt is padded on the left. As everywhere, the T queries are the last
of the S positions.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.config import TransformerConfig
from llmbook.model.masks import relative_positions


def alibi_slopes(n_heads: int) -> Float[Tensor, "H"]:
    """The slope of each head: a geometric sequence that starts at its own ratio, 2^(-8/n) for n heads.

    For a number of heads that is not a power of two, the paper's rule: take the slopes of the power below, then
    every second one of the power above (https://arxiv.org/abs/2108.12409, appendix of its code).
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    return torch.tensor(slopes + between[: n_heads - power])


class AlibiBias(nn.Module):
    """Each head subtracts its slope times the distance: the further, the quieter; nothing is learned."""

    def __init__(self, *, n_heads: int):
        super().__init__()
        self.register_buffer("slopes", alibi_slopes(n_heads), persistent=False)

    def forward(self, q_len: int, k_len: int) -> Float[Tensor, "1 H T S"]:
        distance = relative_positions(q_len, k_len, device=self.slopes.device).abs()
        return -(self.slopes[:, None, None] * distance)[None]


def t5_bucket(
    relative: Int[Tensor, "T S"], *, n_buckets: int = 32, max_distance: int = 128, bidirectional: bool = False
) -> Int[Tensor, "T S"]:
    """T5's bucket of each relative position (https://arxiv.org/abs/1910.10683, §2.1).

    Half the buckets hold one distance each, the other half grow logarithmically up to ``max_distance``, beyond
    which all distances share the last. A causal model has buckets for the past only; a bidirectional one splits
    them between past and future.
    """
    bucket = torch.zeros_like(relative)
    if bidirectional:
        n_buckets //= 2
        bucket = bucket + (relative > 0) * n_buckets
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = n_buckets // 2
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    coarse = (exact + growth * (n_buckets - exact)).long().clamp(max=n_buckets - 1)
    return bucket + torch.where(distance < exact, distance, coarse)


class T5Bias(nn.Module):
    """A learned number per head and bucket of distance, shared by all layers."""

    def __init__(self, *, n_heads: int, n_buckets: int = 32, max_distance: int = 128, bidirectional: bool = False):
        super().__init__()
        self.n_buckets, self.max_distance, self.bidirectional = n_buckets, max_distance, bidirectional
        self.table = nn.Embedding(n_buckets, n_heads)

    def forward(self, q_len: int, k_len: int) -> Float[Tensor, "1 H T S"]:
        relative = relative_positions(q_len, k_len, device=self.table.weight.device)
        bucket = t5_bucket(
            relative,
            n_buckets=self.n_buckets,
            max_distance=self.max_distance,
            bidirectional=self.bidirectional,
        )
        return self.table(bucket).permute(2, 0, 1)[None]  # [T, S, H] -> [1, H, T, S]


def make_position_bias(config: TransformerConfig, *, causal: bool) -> nn.Module | None:
    """The bias a configuration adds to its scores for distances, if any."""
    if config.positions == "alibi":
        return AlibiBias(n_heads=config.n_heads)
    if config.positions == "t5":
        return T5Bias(
            n_heads=config.n_heads,
            n_buckets=config.t5_buckets,
            max_distance=config.t5_max_distance,
            bidirectional=not causal,
        )
    return None
