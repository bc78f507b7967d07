"""What stays hard: seventy billion parameters for one reader, a second shortcut, exposure."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

BYTES, CARDS, BANDWIDTH = 2 * 70.6e9, 2, 3.35e12

reader = Exercise(
    answer=CARDS * BANDWIDTH / BYTES,
    relative=0.03,
    hints=[
        Hint(BANDWIDTH / BYTES, "It takes two cards to hold the model, and both fetch at once."),
        Hint(2 * CARDS * BANDWIDTH / BYTES, "A parameter of 16 bits has two bytes."),
        Hint(BYTES / BANDWIDTH / CARDS, "These are seconds a token. Asked are tokens a second."),
        Hint(1e3 * BYTES / BANDWIDTH / CARDS, "These are milliseconds a token. Asked are tokens a second."),
    ],
)

shortcut = Exercise(
    between=(0.05, 0.45),
    hints=[
        Hint(lambda share: 0.45 < share < 0.6, "This is about a coin. The model is worse than that."),
        Hint(
            lambda share: 0.6 <= share <= 1,
            "This is how often it is right while the taste lasts. Asked is the share once it has turned.",
        ),
    ],
)


def exposure(log_p, true):
    """Equation (3): bits by which the true candidate stands out."""
    rank = 1 + (log_p > log_p[true]).sum().item()
    return math.log2(len(log_p)) - math.log2(rank)


def _rank_from_zero(log_p, true):
    return math.log2(len(log_p)) - math.log2(max(1, (log_p > log_p[true]).sum().item()))


def _ties_count(log_p, true):
    return math.log2(len(log_p)) - math.log2((log_p >= log_p[true]).sum().item())


def _nats(log_p, true):
    return exposure(log_p, true) * math.log(2)


def _from_the_end(log_p, true):
    return math.log2(len(log_p)) - math.log2(1 + (log_p < log_p[true]).sum().item())


FOUR = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()

build = Exercise(
    build=exposure,
    tolerance=1e-4,
    cases=[
        Case("the most probable of four has 2 bits", (FOUR, 1)),
        Case("the third of four", (FOUR, 2)),
        Case("the least probable of four has none", (FOUR, 0)),
        Case("candidates that tie do not count as more probable", (torch.zeros(8), 7)),
    ],
    hints=[
        Hint(_ties_count, "A candidate with the same probability is not more probable: count only larger ones."),
        Hint(_rank_from_zero, "The rank of the most probable is 1: add one to the number of larger ones."),
        Hint(_nats, "These are nats: take the logarithm to base 2."),
        Hint(_from_the_end, "The rank counts from the most probable, not from the least."),
    ],
)

EXERCISES = {1: reader, 2: shortcut, 3: build}
