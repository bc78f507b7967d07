"""Positions as vectors added to the input: the sinusoids of the original Transformer, or a learned table.

The first of three places where a position can enter attention (the others: ``position_bias`` adds to the scores,
``rotary`` turns queries and keys).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.config import TransformerConfig


def sinusoidal_encoding(positions: Int[Tensor, "*P"], d_model: int, *, base: float = 10_000.0) -> Float[Tensor, "*P C"]:
    r"""Sines and cosines of each position at geometrically spaced frequencies (https://arxiv.org/abs/1706.03762, §3.5).

    $$PE_{p,2i} = \sin(p\, b^{-2i/C}) \qquad PE_{p,2i+1} = \cos(p\, b^{-2i/C})$$

    Any position has an encoding; there is no longest one. Raises ValueError for an odd ``d_model``.
    """
    if d_model % 2:
        raise ValueError(f"d_model={d_model} must be even: each frequency takes a sine and a cosine")
    exponent = torch.arange(0, d_model, 2, device=positions.device, dtype=torch.float32) / d_model
    angles = positions[..., None].float() * base**-exponent  # [*P, C/2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)  # [*P, C]


def sinusoidal_table(n_positions: int, d_model: int, *, base: float = 10_000.0) -> Float[Tensor, "P C"]:
    """The encodings of positions 0 … ``n_positions - 1``, one a row."""
    return sinusoidal_encoding(torch.arange(n_positions), d_model, base=base)


class SinusoidalPositions(nn.Module):
    """Adds nothing to learn: position p always gets the same vector."""

    def __init__(self, *, d_model: int, base: float = 10_000.0):
        super().__init__()
        self.d_model, self.base = d_model, base

    def forward(self, positions: Int[Tensor, "*P"]) -> Float[Tensor, "*P C"]:
        return sinusoidal_encoding(positions, self.d_model, base=self.base)


class LearnedPositions(nn.Module):
    """One trained vector per position, as in GPT-2 and BERT; there is none beyond ``max_seq_len``."""

    def __init__(self, *, max_seq_len: int, d_model: int):
        super().__init__()
        self.table = nn.Embedding(max_seq_len, d_model)

    def forward(self, positions: Int[Tensor, "*P"]) -> Float[Tensor, "*P C"]:
        return self.table(positions)


def make_positions(config: TransformerConfig) -> nn.Module | None:
    """The vectors a configuration adds to its tokens' for their positions, if any."""
    if config.positions == "learned":
        return LearnedPositions(max_seq_len=config.max_seq_len, d_model=config.d_model)
    if config.positions == "sinusoidal":
        return SinusoidalPositions(d_model=config.d_model)
    return None
