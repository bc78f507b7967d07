"""Parallelism: bytes and a bubble, what equal lengths hide, one mean from those of several processes."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

bytes_and_bubble = Exercise(
    answer=[28.0, 0.2],
    tolerance=0.005,
    hints=[
        Hint([32.0, 0.2], "2 · 16 GB is the limit for many processes; with n = 8 the factor is 2 (n − 1)/n."),
        Hint([14.0, 0.2], "An all-reduce has two halves: a reduce-scatter and an all-gather."),
        Hint([56.0, 0.2], "Two bytes a number, not four."),
        Hint([28.0, 0.25], "The stages also wait while the last m passes: divide by m + p − 1, not by m."),
    ],
)

hidden = Exercise(
    answer=2,
    hints=[
        Hint(1, "One is the mean of means. Where else is a mean of unequal parts taken with equal weights?"),
        Hint(0, "With equal counts, N₁ = N₂, look at the weights that the mean of means gives to each process."),
    ],
)


def combine(means, counts):
    """The gradient of the mean over all targets, from each process's own mean and its number of targets."""
    return sum(mean * n for mean, n in zip(means, counts, strict=True) if n) / sum(counts)


def _plain(means, counts):
    return sum(means) / len(means)


def _sum(means, counts):
    return sum(mean * n for mean, n in zip(means, counts, strict=True) if n)


def _idle(function):
    """None if a process without targets does not count, else what is wrong."""
    found = torch.as_tensor(function([torch.tensor([1.0, -2.0]), torch.full((2,), torch.nan)], [8, 0]))
    if found.isnan().any():
        return "its mean is 0/0 = nan, and 0 · nan is nan: leave that process out"
    return None if torch.allclose(found, torch.tensor([1.0, -2.0])) else "it must not count"


A, B = torch.tensor([1.0, -2.0]), torch.tensor([4.0, 1.0])

build = Exercise(
    build=combine,
    cases=[
        Case("equal counts", ([A, B], [5, 5])),
        Case("unequal counts", ([A, B], [30, 10])),
        Case("three processes", ([A, B, A + B], [1, 2, 3])),
        Case("a process without targets", test=_idle),
    ],
    hints=[
        Hint(_plain, "This is the mean of means: a process with few targets must weigh little."),
        Hint(_sum, "This is the sum over all targets; divide by their number."),
    ],
)

EXERCISES = {1: bytes_and_bubble, 2: hidden, 3: build}
