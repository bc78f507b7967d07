"""Efficiency: the bytes of a rounded matrix, errors that all point outwards, a scale that clips."""

import torch

from llmbook.compression import quantise_absmax
from llmbook.exercises.exercise import Case, Exercise, Hint

ROWS, COLUMNS = 640, 160
WEIGHTS = ROWS * COLUMNS

stored = Exercise(
    answer=[WEIGHTS * 5 // 8, WEIGHTS * 4 // 8 + ROWS * 2],
    hints=[
        Hint([WEIGHTS * 5, WEIGHTS * 4 + ROWS * 16], "These are bits: a byte has eight."),
        Hint(
            lambda given: given[0] == (WEIGHTS * 4 + WEIGHTS // 32 * 16) // 8,
            "A group stores two numbers, a scale and a minimum: 32 bits for 32 weights.",
        ),
        Hint(
            lambda given: given[1] == WEIGHTS * 4 // 8 + COLUMNS * 2, "There are 640 rows; 160 is the length of a row."
        ),
        Hint(lambda given: given[1] == WEIGHTS * 4 // 8, "The scales are missing: 16 bits for each of the 640 rows."),
    ],
)

outwards = Exercise(
    answer="less",
    options=["less", "same", "more"],
    hints=[
        Hint("same", "The coin toss costs the same, not these signs: call `with_signs(torch.sign)` and compare."),
        Hint("more", "Upwards is what costs more. Outwards is another direction: call `with_signs(torch.sign)`."),
    ],
)

FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def clipped(w, bits):
    """The best of six scales for each row, by squared error."""
    return _best(w, bits, dim=1)


def _best(w, bits, dim):
    end = 2 ** (bits - 1) - 1
    tried = []
    for fraction in FRACTIONS:
        s = fraction * w.abs().amax(1, keepdim=True) / end
        tried.append((w / s).round().clamp(-end, end) * s)
    errors = torch.stack([((one - w) ** 2).sum(dim, keepdim=True) for one in tried])  # [6, N, 1] or [6, 1, 1]
    return torch.stack(tried).gather(0, errors.argmin(0).expand_as(w)[None])[0]


def _one_fraction_for_all(w, bits):
    return _best(w, bits, dim=(0, 1))


def _not_clipped(w, bits):
    """A smaller scale without an end: more codes than the bits allow."""
    s = 0.5 * w.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (w / s).round() * s


def _absmax(w, bits):
    return quantise_absmax(w, bits=bits).dequantise()


def _matrix(seed):
    return torch.randn(16, 160, generator=torch.Generator().manual_seed(seed))


build = Exercise(
    build=clipped,
    tolerance=1e-5,
    cases=[Case("at 2 bits", (_matrix(1), 2)), Case("at 3 bits", (_matrix(2), 3)), Case("at 4 bits", (_matrix(3), 4))],
    hints=[
        Hint(_absmax, "This is absmax: let f run from 1.0 down to 0.5, and keep the best for each row."),
        Hint(_one_fraction_for_all, "One fraction serves all rows here: each row chooses its own."),
        Hint(_not_clipped, "Codes run past the end: clamp them to −end … end before multiplying by s."),
    ],
)

EXERCISES = {1: stored, 2: outwards, 3: build}
