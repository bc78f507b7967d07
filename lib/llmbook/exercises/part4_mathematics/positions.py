"""Positions, the proofs: pairs that complete a turn, half of the middle stopped, scaling by parts."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

BASES = 10_000, 1_000_000


def _turning(base: float, length: float) -> int:
    return math.floor(64 * math.log(length / (2 * math.pi), base)) + 1


turning = Exercise(
    answer=[_turning(base, 4096) for base in BASES],
    tolerance=0.1,
    hints=[
        Hint(
            [_turning(base, 4096) - 1 for base in BASES], "These are the last pairs; counted from 0, there is one more."
        ),
        Hint([_turning(base, 4096 * 2 * math.pi) for base in BASES], "A full turn is 2π radians, not one."),
        Hint([2 * _turning(base, 4096) for base in BASES], "A head of width 128 has 64 pairs: D/2, not D."),
        Hint([_turning(base, 4096) for base in BASES[::-1]], "The other way round: base 10,000 comes first."),
    ],
)

half = Exercise(
    between=(0.15, 1.3),
    hints=[
        Hint(lambda given: 0.04 < given < 0.14, "This is the sum of the three single costs: stop them together."),
        Hint(lambda given: given > 1.4, "This is near the cost of all six: stop pairs 1, 2 and 3."),
    ],
)


def by_parts(D, b, L, s):
    """The angles with which pairs that completed a turn in training are kept and the others divided by ``s``."""
    theta = b ** -(2 * torch.arange(D // 2, dtype=torch.float64) / D)
    return torch.where(L * theta >= 2 * math.pi, theta, theta / s)


def _plain(D, b, L, s):
    return b ** -(2 * torch.arange(D // 2, dtype=torch.float64) / D)


def _linear(D, b, L, s):
    return _plain(D, b, L, s) / s


def _reversed(D, b, L, s):
    theta = _plain(D, b, L, s)
    return torch.where(L * theta >= 2 * math.pi, theta / s, theta)


def _one_radian(D, b, L, s):
    theta = _plain(D, b, L, s)
    return torch.where(L * theta >= 1, theta, theta / s)


def _nothing_new(function):
    """None if no pair that made less than a turn points beyond its arc below s L, else which one does."""
    D, b, L, s = 32, 10_000, 256, 4
    theta, new = _plain(D, b, L, s), torch.as_tensor(function(D, b, L, s))
    for j in range(D // 2):
        if L * theta[j] < 2 * math.pi and s * L * new[j] > L * theta[j] * 1.001:
            return f"pair {j} made less than a turn in training and leaves its arc before {s * L}"
    return None


build = Exercise(
    build=by_parts,
    tolerance=1e-6,
    cases=[
        Case("width 32, 256 positions, 4 times", (32, 10_000, 256, 4)),
        Case("width 64, 4,096 positions, 8 times", (64, 10_000, 4096, 8)),
        Case("base 500,000", (128, 500_000, 8192, 2)),
        Case("nothing unseen", test=_nothing_new),
    ],
    hints=[
        Hint(_plain, "These are the angles as trained: divide those of the pairs that made less than a turn."),
        Hint(_linear, "Every pair is divided: that is interpolation. Keep the pairs that completed a turn."),
        Hint(_reversed, "The other way round: the pairs that completed a turn keep their angles."),
        Hint(_one_radian, "A full turn is 2π radians."),
    ],
)

EXERCISES = {1: turning, 2: half, 3: build}
