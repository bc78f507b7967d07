"""Attention: the pencil's weights, the scale at two widths, a head that reads the previous token."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint
from llmbook.model import attend

SCORES = torch.tensor([0.0, 2, 0, 0, 1])  # of token 3, the second "the": (0, 1, 0) with each key
WEIGHTS = (SCORES / math.sqrt(3)).softmax(0)

by_hand = Exercise(
    answer=WEIGHTS,
    tolerance=0.006,
    hints=[
        Hint(SCORES.softmax(0), "The scores were not divided by √3 before the softmax."),
        Hint((SCORES / 3).softmax(0), "The scores are divided by √3, not by 3."),
        Hint(SCORES / SCORES.sum(), "These are shares of the scores: the softmax takes e to the power of each first."),
        Hint((2 * SCORES / math.sqrt(3)).softmax(0), "This is the row of drinks: the query of token 3 is (0, 1, 0)."),
    ],
)


def readable(d: int, scaled: bool) -> float:
    """How many of 16 random keys get more than a hundredth of the weight, on average over 500 queries."""
    g = torch.Generator().manual_seed(5)
    q, k = torch.randn(500, 1, d, generator=g), torch.randn(500, 16, d, generator=g)
    weights = (q @ k.mT * (d**-0.5 if scaled else 1.0)).softmax(-1)
    return (weights > 0.01).sum(-1).float().mean().item()


def _four() -> list[float]:
    return [readable(d, scaled) for d in (4, 256) for scaled in (True, False)]


vary = Exercise(
    answer=_four,
    tolerance=0.7,
    hints=[
        Hint(
            lambda given: given[0] < given[1] or given[2] < given[3], "The scale spreads the weights: it comes first."
        ),
        Hint(lambda given: abs(given[1] - given[3]) < 1, "Without the scale the width matters: scores grow like √d_k."),
        Hint(lambda given: max(given) <= 1, "Give numbers of keys, not shares of 16."),
    ],
)


def previous(x):
    """Weights [T, T] of a head that reads the token before, for x [T, 16]: what it is, then where it stands."""
    nothing = torch.zeros(8, 8)
    w_k = torch.cat([nothing, torch.eye(8)])
    w_q = torch.cat([nothing, 30.0 * torch.diag(torch.ones(7), -1)])
    return _read(x @ w_q, x @ w_k)


def _read(q, k, causal=True):
    return attend(q[None, None], k[None, None], k[None, None], causal=causal, backend="eager", need_weights=True)[1][
        0, 0
    ]


def _itself(x):
    return _read(30.0 * x[:, 8:], x[:, 8:])


def _next(x):
    return _read(30.0 * x[:, 8:].roll(-1, 0), x[:, 8:], causal=False)


def _faint(x):
    return _read(x[:, 8:] @ torch.diag(torch.ones(7), -1), x[:, 8:])


def _open(x):
    return _read(30.0 * x[:, 8:] @ torch.diag(torch.ones(7), -1), x[:, 8:], causal=False)


def tokens(seed: int):
    """Eight tokens [8, 16]: eight random numbers each, then a one-hot vector of the place."""
    what = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.cat([what, torch.eye(8)], dim=1)


build = Exercise(
    build=previous,
    tolerance=0.01,
    cases=[Case("eight tokens", (tokens(0),)), Case("other tokens in the same places", (tokens(1),))],
    hints=[
        Hint(_itself, "Every token reads itself: the query of place p has to ask for place p − 1."),
        Hint(_next, "Every token reads the one after it: shift the other way, and keep the causal mask."),
        Hint(
            _faint,
            "The right token wins, with too small a weight: make the query longer. The weight is above 0.99 "
            "where the scaled score is above ln(99 · 7).",
        ),
        Hint(_open, "Token 0 has nothing before it: with the causal mask it reads itself."),
    ],
)

EXERCISES = {1: by_hand, 2: vary, 3: build}
