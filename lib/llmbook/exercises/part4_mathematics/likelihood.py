"""Likelihood: a sentence's negative log-likelihood, a loss near 0/1, cross-entropy with smoothed labels."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

LIKELIHOOD = (1 / 3) * (1 / 3) * (2 / 3)

nll = Exercise(
    answer=-math.log(LIKELIHOOD),
    tolerance=0.005,
    unit="nats",
    hints=[
        Hint(LIKELIHOOD, "This is the likelihood; take minus its logarithm."),
        Hint(-math.log(LIKELIHOOD) / 7, "This is the mean over the tokens; the sum is asked for."),
        Hint(-math.log((1 / 3) * (2 / 3)), "*read* comes twice, and each time it is a choice after *we*."),
        Hint(math.log(LIKELIHOOD), "Only the sign is wrong."),
    ],
)

TRUTH, POWER = (0.6, 0.3, 0.1), 0.75


def _sharpened(exponent):
    raised = [q**exponent for q in TRUTH]
    return raised[0] / sum(raised)


near_01 = Exercise(
    answer=_sharpened(1 / (1 - POWER)),
    tolerance=0.003,
    hints=[
        Hint(0.6, "This is the truth itself; only a proper loss returns it."),
        Hint(1.0, "A forecast of certainty belongs to a = 1."),
        Hint(_sharpened(1 - POWER), "The exponent is 1/(1 − a), not 1 − a: this forecast is flatter than the truth."),
        Hint(_sharpened(POWER), "The exponent is 1/(1 − a), not a."),
        Hint(_sharpened(1 / POWER), "The exponent is 1/(1 − a), not 1/a."),
        Hint(TRUTH[0] ** (1 / (1 - POWER)), "Divide by the sum over the three outcomes."),
    ],
)


def smoothed(logits, targets, eps):
    """Mean cross-entropy [] of logits [N, V] against targets [N] that keep 1 − eps and give eps to all V evenly."""
    logs = logits.log_softmax(-1)
    chosen = logs.gather(-1, targets[:, None])[:, 0]
    return -((1 - eps) * chosen + eps * logs.mean(-1)).mean()


def _to_the_others(logits, targets, eps):
    logs, n = logits.log_softmax(-1), logits.shape[-1]
    chosen = logs.gather(-1, targets[:, None])[:, 0]
    return -((1 - eps) * chosen + eps * (logs.sum(-1) - chosen) / (n - 1)).mean()


def _summed(logits, targets, eps):
    return smoothed(logits, targets, eps) * len(targets)


def _plain(logits, targets, eps):
    return smoothed(logits, targets, 0.0)


def _smooth_forecast(logits, targets, eps):
    p = (1 - eps) * logits.softmax(-1) + eps / logits.shape[-1]
    return -p.gather(-1, targets[:, None]).log().mean()


def _not_averaged(logits, targets, eps):
    logs = logits.log_softmax(-1)
    return -((1 - eps) * logs.gather(-1, targets[:, None])[:, 0] + eps * logs.sum(-1)).mean()


def _numbers(n: int, v: int, seed: int) -> tuple:
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, v, generator=g), torch.randint(v, (n,), generator=g)


build = Exercise(
    build=smoothed,
    tolerance=1e-4,
    cases=[
        Case("no smoothing", (*_numbers(4, 3, 0), 0.0)),
        Case("a tenth, three classes", (*_numbers(5, 3, 1), 0.1)),
        Case("a third, eight classes", (*_numbers(2, 8, 2), 0.3)),
    ],
    hints=[
        Hint(_to_the_others, "ε goes to all V classes evenly, the right one among them."),
        Hint(_summed, "The mean over the N rows is asked for, not the sum."),
        Hint(_plain, "ε has no effect: this is plain cross-entropy."),
        Hint(_smooth_forecast, "It is the label that is smoothed, not the forecast."),
        Hint(_not_averaged, "ε is divided among the V classes: a mean of the logarithms, not their sum."),
    ],
)

EXERCISES = {1: nll, 2: near_01, 3: build}
