r"""A feed-forward net of many experts, of which each token uses a few.

$$y = \sum_{e \in \mathrm{top}_k(r)} \frac{\exp r_e}{\sum_{f \in \mathrm{top}_k(r)} \exp r_f}\; \mathrm{FF}_e(x)
  \qquad r = W_r\,x$$

The router $W_r$ scores the E experts for each token; the k best compute, and share the token by the softmax of their
scores (https://arxiv.org/abs/1701.06538, in the form of https://arxiv.org/abs/2401.04088). With k = E it is a dense
sum of all experts.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.linear import Linear


@dataclass(frozen=True, kw_only=True)
class Experts:
    """How many experts a feed-forward net has, and how many of them a token uses.

    Raises:
        ValueError: ``n_active`` lies outside of 1 … ``n_experts``.
    """

    kind: ClassVar[str] = "experts"
    n_experts: int = 8
    n_active: int = 2

    def __post_init__(self):
        if not 1 <= self.n_active <= self.n_experts:
            raise ValueError(
                f"n_active={self.n_active} of n_experts={self.n_experts}: a token uses at least one expert and at "
                "most all"
            )


class ExpertFeedForward(nn.Module):
    """``experts``, feed-forward nets of one shape, behind a router; each computes only for the tokens sent to it."""

    def __init__(self, experts: list[nn.Module], *, d_model: int, n_active: int):
        super().__init__()
        self.router = Linear(d_model, len(experts), bias=False)
        self.experts = nn.ModuleList(experts)
        self.n_active = n_active

    def route(self, x: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
        """The shares of each token's experts, which sum to 1, and which they are."""
        scores, chosen = self.router(x).topk(self.n_active, dim=-1)
        return scores.softmax(-1), chosen

    def forward(self, x: Float[Tensor, "*P C"]) -> Float[Tensor, "*P C"]:
        tokens = x.reshape(-1, x.shape[-1])  # [N, C]
        shares, chosen = self.route(tokens)
        y = torch.zeros_like(tokens)
        for e, expert in enumerate(self.experts):
            row, place = (chosen == e).nonzero(as_tuple=True)
            y = y.index_add(0, row, expert(tokens[row]) * shares[row, place, None])
        return y.view_as(x)
