"""Pre-training: a model's size and first loss by hand, a shorter context, min-p."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

V, C, L, INIT = 256, 128, 4, 0.02
NORMS = L * 2 * C + C
N = V * C + L * 12 * C**2 + NORMS
START = math.log(V) + C * INIT**2 / 2

size = Exercise(
    answer={"parameters": N, "loss": START},
    tolerance=0.01,
    hints=[
        Hint({"parameters": N, "loss": math.log(V)}, "Random weights have opinions: add half the variance of a logit."),
        Hint(lambda given: given["parameters"] == N - NORMS, "The norms are missing: two a layer and a last one."),
        Hint(
            lambda given: given["parameters"] == N + V * C, "The output layer is the token table again: count it once."
        ),
        Hint(lambda given: given["parameters"] == N - V * C, "The token table is missing: V vectors of width C."),
    ],
)

shorter = Exercise(
    between=(0.03, 0.35),  # nats per token, measured at quick scale and in the longer runs
    hints=[
        Hint(lambda more: more < 0, "A shorter context cannot help a model that was trained with the longer one."),
        Hint(lambda more: more > 0.35, "Half the positions of 16 see eight tokens and more; average all."),
    ],
)


def keep_min_p(logits, p):
    """Drop what is less than ``p`` times as likely as the likeliest: a difference of logits."""
    bar = logits.max(-1, keepdim=True).values + math.log(p)
    return logits.masked_fill(logits < bar, -math.inf)


def _fixed_bar(logits, p):
    return logits.masked_fill(logits.softmax(-1) < p, -math.inf)


def _over_the_batch(logits, p):
    return logits.masked_fill(logits < logits.max() + math.log(p), -math.inf)


PAIR = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]]).log()
UNEQUAL = torch.tensor([[9.0, 8.0, 0.0], [1.0, 0.9, -5.0]])  # unnormalised; the second row is far below the first


build = Exercise(
    build=keep_min_p,
    cases=[
        Case("by hand: 0.5, 0.3 stay at p = 0.4", (PAIR, 0.4)),
        Case("every row has a bar of its own", (UNEQUAL, 0.2)),
        Case("a tiny p drops nothing", (PAIR, 1e-9)),
    ],
    hints=[
        Hint(_fixed_bar, "This drops what is less likely than p. The bar is p times the largest probability."),
        Hint(_over_the_batch, "Each row has its own likeliest token: take the maximum over the last dimension."),
    ],
)

EXERCISES = {1: size, 2: shorter, 3: build}
