r"""A feed-forward net of many experts, of which each token uses a few.

$$y = \sum_{e \in \mathrm{top}_k(r + b)} g_e\; \mathrm{FF}_e(x) \qquad r = W_r\,x$$

The router $W_r$ scores the E experts for each token; the k best compute (https://arxiv.org/abs/1701.06538). Their
shares $g$ are the softmax of the scores, of the chosen ones (https://arxiv.org/abs/2401.04088) or of all
(https://arxiv.org/abs/2101.03961). With k = E it is a dense sum of all experts. The bias $b$ takes part in the choice
alone. Nothing is kept in the layers while they compute: ``watch_routing`` hands out what they decide, and
``balance_loss`` and ``balance_by_bias`` are the two usual ways to have all experts used.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.linear import Linear


@dataclass(frozen=True, kw_only=True)
class Experts:
    """How many experts a feed-forward net has, how many of them a token uses, and how they share it.

    shares: "chosen", the softmax over the scores of the chosen experts, or "all", the softmax over all scores, of which
    the chosen keep theirs. With one active expert "chosen" is always 1, and the loss teaches the router nothing.
    capacity: in training an expert takes at most so many times its even part of a batch's tokens, in reading order;
    those that find no room get nothing from it. None: all. selection_bias: a bias on the choice, moved by
    ``balance_by_bias``.

    Raises:
        ValueError: ``n_active`` lies outside of 1 … ``n_experts``, ``shares`` is no such name, ``capacity`` is not
            positive.
    """

    kind: ClassVar[str] = "experts"
    n_experts: int = 8
    n_active: int = 2
    shares: Literal["chosen", "all"] = "chosen"
    capacity: float | None = None
    selection_bias: bool = False

    def __post_init__(self):
        if not 1 <= self.n_active <= self.n_experts:
            raise ValueError(
                f"n_active={self.n_active} of n_experts={self.n_experts}: a token uses at least one expert and at "
                "most all"
            )
        if self.shares not in ("chosen", "all"):
            raise ValueError(f"shares={self.shares!r} is not one of 'chosen', 'all'")
        if self.capacity is not None and not 0 < self.capacity < math.inf:
            raise ValueError(f"capacity={self.capacity!r}: give a positive number of even parts, or None for no limit")


class Routing(NamedTuple):
    """What one layer decided for N tokens: the scores of all E experts, and the K that were chosen, best first."""

    scores: Float[Tensor, "N E"]
    chosen: Int[Tensor, "N K"]

    @property
    def load(self) -> Float[Tensor, "E"]:
        """The share of the choices that fell on each expert; they sum to 1."""
        return torch.bincount(self.chosen.flatten(), minlength=self.scores.shape[-1]) / self.chosen.numel()


class ExpertFeedForward(nn.Module):
    """``experts``, feed-forward nets of one shape, behind a router; each computes only for the tokens sent to it."""

    selection_bias: Tensor | None

    def __init__(self, experts: list[nn.Module], *, d_model: int, settings: Experts):
        super().__init__()
        self.router = Linear(d_model, len(experts), bias=False)
        self.experts = nn.ModuleList(experts)
        self.settings = settings
        self.register_buffer("selection_bias", torch.zeros(len(experts)) if settings.selection_bias else None)

    def choose(self, scores: Float[Tensor, "N E"]) -> Int[Tensor, "N K"]:
        """The experts of each token: the best scores, with the bias on the choice where there is one."""
        if self.selection_bias is not None:
            scores = scores + self.selection_bias
        return scores.topk(self.settings.n_active, dim=-1).indices

    def route(self, x: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
        """The shares of each token's experts, and which they are."""
        scores = self.router(x)  # [N, E]
        chosen = self.choose(scores)
        if self.settings.shares == "all":
            return scores.softmax(-1).gather(-1, chosen), chosen
        return scores.gather(-1, chosen).softmax(-1), chosen

    def forward(self, x: Float[Tensor, "*P C"]) -> Float[Tensor, "*P C"]:
        tokens = x.reshape(-1, x.shape[-1])  # [N, C]
        shares, chosen = self.route(tokens)
        room = self._room(chosen.numel())
        y = torch.zeros_like(tokens)
        for e, expert in enumerate(self.experts):
            row, place = (chosen == e).nonzero(as_tuple=True)  # in reading order
            row, place = row[:room], place[:room]
            y = y.index_add(0, row, expert(tokens[row]) * shares[row, place, None])
        return y.view_as(x)

    def _room(self, n_choices: int) -> int | None:
        """How many tokens an expert takes. A limit when reading would make a token depend on who reads with it."""
        if self.settings.capacity is None or not self.training:
            return None
        return math.ceil(self.settings.capacity * n_choices / len(self.experts))


@contextmanager
def watch_routing(model: nn.Module) -> Iterator[list[Routing]]:
    """Inside the block, every pass through a layer of experts appends its ``Routing`` to the list that is given.

    One pass of a model adds one for each layer, in order. Raises ValueError for a model without experts.
    """
    layers = [part for part in model.modules() if isinstance(part, ExpertFeedForward)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer of experts: make it with experts=Experts(…)")
    found: list[Routing] = []

    def append(layer: ExpertFeedForward):
        return lambda _module, _given, scores: found.append(Routing(scores, layer.choose(scores)))

    handles = [layer.router.register_forward_hook(append(layer)) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def balance_loss(routing: Routing) -> Float[Tensor, ""]:
    r"""The Switch Transformer's: E Σ_e f_e P_e, 1 where the load is even (https://arxiv.org/abs/2101.03961, §2.2).

    f: the share of choices that fell on each expert, which has no derivative; P: the mean of the softmax of its scores,
    which has. So the derivative lowers the probability of experts in proportion to their load.
    """
    mean = routing.scores.softmax(-1).mean(0)  # P: [E]
    return len(mean) * (routing.load * mean).sum()


@torch.no_grad()
def balance_by_bias(model: nn.Module, routings: Sequence[Routing], *, step: float) -> None:
    """Move each expert's bias on the choice by ``step``, up where its load is below the mean, else down.

    No loss and no derivative (https://arxiv.org/abs/2408.15664; there the bias is added to gates between 0 and 1, here
    to the scores before the softmax). ``routings``: one for each layer, from ``watch_routing``. Raises ValueError for
    a layer without ``selection_bias``, and for another number of layers.
    """
    layers = [part for part in model.modules() if isinstance(part, ExpertFeedForward)]
    if len(layers) != len(routings):
        raise ValueError(f"{len(routings)} routings for {len(layers)} layers of experts: give one for each")
    for layer, routing in zip(layers, routings, strict=True):
        if layer.selection_bias is None:
            raise ValueError("a layer of experts has no bias on the choice: make it with selection_bias=True")
        layer.selection_bias += step * torch.sign(1 / len(layer.experts) - routing.load)
