"""Reasoning: advantages of a group, a pool of eight problems, pass@k from counts."""

from math import comb

from llmbook.exercises.exercise import Case, Exercise, Hint

advantages = Exercise(
    answer=[1.62, -0.54],
    tolerance=0.01,
    hints=[
        Hint([1.732, -0.577], "This standard deviation divides by G; the library's divides by G - 1."),
        Hint([0.75, -0.25], "These are the rewards less their mean: they are still to be divided by s."),
        Hint([-0.54, 1.62], "The right answer first: its advantage is positive."),
        Hint([3.5, -1.167], "You divided by the variance; s is its square root."),
    ],
)

pool = Exercise(
    between=(0.01, 0.24),
    hints=[
        Hint(lambda answer: answer > 0.5, "This is the accuracy on the pool; measure on problems held out."),
        Hint(lambda answer: 0.24 < answer <= 0.5, "Not fewer than before training? Measure the trained model."),
    ],
)


def estimate(c, n, k):
    """The unbiased estimate of pass@k from c right answers of n."""
    return 1 - comb(n - c, k) / comb(n, k)


def _plugged_in(c, n, k):
    return 1 - (1 - c / n) ** k


def _none_right(c, n, k):
    return comb(n - c, k) / comb(n, k)


def _all_right(c, n, k):
    return comb(c, k) / comb(n, k)


build = Exercise(
    build=estimate,
    cases=[
        Case("one try", (3, 10, 1)),
        Case("four tries", (3, 10, 4)),
        Case("no right answer", (0, 10, 5)),
        Case("so many tries that one must be right", (3, 10, 8)),
    ],
    hints=[
        Hint(_plugged_in, "This puts c/n for p, which is too little on average: count sets of k answers."),
        Hint(_none_right, "This is the share of sets without a right answer; subtract it from 1."),
        Hint(_all_right, "One right answer in the set is enough; not all need to be."),
    ],
)

EXERCISES = {1: advantages, 2: pool, 3: build}
