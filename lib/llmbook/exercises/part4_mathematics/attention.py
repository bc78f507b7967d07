"""Attention, derived: the bound on a weight, where the pairs are half, the backward pass of a softmax."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

NEEDED = [math.log(15 * 9) / 2, math.log(1023 * 9) / 2]

needed = Exercise(
    answer=NEEDED,
    tolerance=0.01,
    hints=[
        Hint([2 * B for B in NEEDED], "This is the whole difference 2 B between the scores."),
        Hint([math.log(16 * 9) / 2, math.log(1024 * 9) / 2], "The other tokens are n − 1, not n."),
        Hint([math.log(15) / 2, math.log(1023) / 2], "With this B the weight can be one half, not 0.9."),
    ],
)

half = Exercise(
    answer=[3072.0, 5120.0],
    tolerance=0.01,
    hints=[
        Hint([2048.0, 4096.0], "The four projections count as well."),
        Hint([1024.0, 1024.0], "That is where the pairs equal the projections alone, without the feed-forward part."),
        Hint([6144.0, 10240.0], "Scores and mixtures take T² C each, so the pairs are 2 T² C."),
        Hint([3072.0, 6144.0], "Only the feed-forward part doubles, not the projections."),
    ],
)


def scores_backward(A, dA):
    """The derivative by the scores of softmax rows."""
    return A * (dA - (A * dA).sum(1, keepdim=True))


def _diagonal(A, dA):
    return A * dA


def _own(A, dA):
    return A * (1 - A) * dA


def _columns(A, dA):
    return A * (dA - (A * dA).sum(0, keepdim=True))


def _unweighted(A, dA):
    return A * (dA - dA.sum(1, keepdim=True))


def _mean(A, dA):
    return A * (dA - dA.mean(1, keepdim=True))


def _automatic(scores_backward):
    """None if ``scores_backward`` agrees with automatic differentiation on random rows, else what is wrong."""
    g = torch.Generator().manual_seed(0)
    for T, S in ((1, 2), (5, 7), (8, 3)):
        Z = torch.randn(T, S, generator=g, requires_grad=True)
        dA, A = torch.randn(T, S, generator=g), Z.softmax(1)
        (wanted,) = torch.autograd.grad(A, Z, dA)
        if not torch.allclose(scores_backward(A.detach(), dA), wanted, atol=1e-5):
            return f"{T} rows of {S}: it differs from automatic differentiation"
    return None


ROWS = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])

build = Exercise(
    build=scores_backward,
    cases=[
        Case("one token asked for", (ROWS, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))),
        Case("all asked for alike", (ROWS, torch.ones(2, 3))),
        Case("against automatic differentiation", test=_automatic),
    ],
    hints=[
        Hint(_diagonal, "A weight also falls when another score rises: the sum in (9) is missing."),
        Hint(_own, "This is the diagonal of J alone."),
        Hint(_columns, "The sum runs over the keys of one query: along a row."),
        Hint(_unweighted, "The sum in (9) is weighted by A."),
        Hint(_mean, "It is the mean under the weights A, not the plain mean."),
    ],
)

EXERCISES = {1: needed, 2: half, 3: build}
