"""Positions: three steps as a matrix, two bases, NTK scaling."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint
from llmbook.model import sinusoidal_encoding


def _block(angle: float):
    return torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


STEPS = torch.block_diag(_block(3.0), _block(0.03))

by_hand = Exercise(
    answer=STEPS,
    tolerance=0.006,
    hints=[
        Hint(STEPS.T, "This turns the other way: sine comes first, so + sin stands above the diagonal."),
        Hint(torch.block_diag(_block(1.0), _block(0.01)), "These are the angles of one step; three are asked for."),
        Hint(torch.block_diag(_block(3.0), _block(3.0)), "The second pair turns more slowly: θ₁ = 10,000^(−2/4)."),
        Hint(torch.block_diag(_block(math.radians(3)), _block(math.radians(0.03))), "The angles are radians."),
    ],
)


def _nearest(base: float) -> float:
    table = sinusoidal_encoding(torch.arange(512), 8, base=base)
    return torch.cdist(table, table).fill_diagonal_(math.inf).min().item()


vary = Exercise(
    answer=lambda: [_nearest(10), _nearest(1_000_000)],
    relative=0.06,
    hints=[
        Hint(lambda given: max(given) < 1e-3, "The distance of a position from itself has to be left out."),
        Hint(lambda given: given[0] < given[1], "The other way round: base 10 comes first."),
    ],
)


def ntk(d_head, base, factor):
    """The angles of RoPE with the base that slows the slowest pair by ``factor``."""
    raised = base * factor ** (d_head / (d_head - 2))
    return raised ** -(torch.arange(0, d_head, 2) / d_head)


def _linear(d_head, base, factor):
    return base ** -(torch.arange(0, d_head, 2) / d_head) / factor


def _plain(d_head, base, factor):
    return base ** -(torch.arange(0, d_head, 2) / d_head)


def _no_exponent(d_head, base, factor):
    return _plain(d_head, base * factor, factor)


def _doubled(d_head, base, factor):
    return (base * factor ** (d_head / (d_head - 2))) ** -(2 * torch.arange(0, d_head, 2) / d_head)


build = Exercise(
    build=ntk,
    tolerance=1e-6,
    cases=[
        Case("width 16, factor 8", (16, 10_000.0, 8.0)),
        Case("width 64, factor 4", (64, 10_000.0, 4.0)),
        Case("base 500,000", (16, 500_000.0, 8.0)),
    ],
    hints=[
        Hint(_plain, "These are the angles without scaling."),
        Hint(_linear, "Every pair is slowed alike: that is the linear scaling. NTK raises the base."),
        Hint(
            _no_exponent, "The base is multiplied by s^(D/(D−2)), not by s: else the slowest pair is slowed too little."
        ),
        Hint(_doubled, "`torch.arange(0, D, 2)` already counts 2i: do not double it."),
    ],
)

EXERCISES = {1: by_hand, 2: vary, 3: build}
