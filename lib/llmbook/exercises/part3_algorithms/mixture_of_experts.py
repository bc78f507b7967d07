"""Mixture of experts: parameters at work, a share that teaches nothing, the balancing loss."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

ONE, ROUTER = 2 * 64 * 256, 64 * 4

parameters = Exercise(
    answer=[4 * ONE + ROUTER, ONE + ROUTER],
    tolerance=0.5,
    hints=[
        Hint([4 * ONE, ONE], "The router has parameters too, and works on every token."),
        Hint(
            [4 * ONE + ROUTER, ONE + 64], "The router scores a token with all four rows, before one expert is chosen."
        ),
        Hint([4 * ONE + ROUTER, ONE], "The router works on every token as well."),
        Hint([2 * ONE + ROUTER, ONE // 2 + ROUTER], "A net has two matrices: to 256 numbers, and back to 64."),
        Hint([ONE + ROUTER, 4 * ONE + ROUTER], "The other way round: all parameters come first."),
    ],
)

gradient = Exercise(
    answer=0.0,
    tolerance=1e-5,
    hints=[Hint(lambda given: given > 1e-5, "The softmax over one score is 1, whatever the score is. What is left?")],
)


def balance(p, chosen):
    """E times the sum of the shares of the choices times the mean probabilities."""
    n, n_experts = p.shape
    f = torch.bincount(chosen, minlength=n_experts) / n
    return n_experts * (f * p.mean(0)).sum()


def _without_e(p, chosen):
    return balance(p, chosen) / p.shape[1]


def _squared(p, chosen):
    return p.shape[1] * (p.mean(0) ** 2).sum()


def _loads_squared(p, chosen):
    f = torch.bincount(chosen, minlength=p.shape[1]) / len(p)
    return p.shape[1] * (f**2).sum()


def _counts(p, chosen):
    return balance(p, chosen) * len(p)


def _of(seed: int, n: int, n_experts: int):
    scores = 2 * torch.randn(n, n_experts, generator=torch.Generator().manual_seed(seed))
    p = scores.softmax(-1)
    return p, p.argmax(1)


def _derivative(function):
    """None if the derivative is f / N · E for every probability."""
    p, chosen = _of(3, 12, 3)
    p.requires_grad_()
    loss = function(p, chosen)
    if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        return "it has no derivative with respect to the probabilities"
    (got,) = torch.autograd.grad(loss, p)
    wanted = (3 * torch.bincount(chosen, minlength=3) / 12 / 12).expand_as(p)
    return None if torch.allclose(got, wanted, atol=1e-5) else "its derivative is not E f / N for each probability"


build = Exercise(
    build=balance,
    tolerance=1e-5,
    cases=[
        Case("eight tokens, four experts", _of(0, 8, 4)),
        Case("an expert without a token", (torch.full((6, 3), 1 / 3), torch.tensor([0, 0, 1, 1, 0, 1]))),
        Case("one hundred tokens, eight experts", _of(1, 100, 8)),
        Case("the derivative", test=_derivative),
    ],
    hints=[
        Hint(_without_e, "The factor E is missing: an even load should give 1."),
        Hint(_squared, "f is the share of tokens that chose an expert, not its mean probability."),
        Hint(_loads_squared, "P is the mean probability, not the share of the tokens: it must have a derivative."),
        Hint(_counts, "f is a share: divide the counts by the number of tokens."),
    ],
)

EXERCISES = {1: parameters, 2: gradient, 3: build}
