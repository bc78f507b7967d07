"""Accelerators: will it fit, where the table takes over, softmax in one pass."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

N, L, C, H, T, B = 124e6, 12, 768, 12, 1024, 8  # GPT-2 small, 8 windows
STATES = 16 * N / 1e9


def _layers(numbers):
    return 4 * numbers * B * T * L / 1e9


SDPA, EAGER = _layers(16 * C + 4 + H), _layers(16 * C + 4 + H * T)

fits = Exercise(
    answer={"states": STATES, "sdpa": SDPA, "eager": EAGER},
    relative=0.02,
    hints=[
        Hint(lambda g: abs(g["states"] - STATES / 2) < 0.02, "AdamW keeps two averages: 16 bytes per weight, not 8."),
        Hint(lambda g: abs(g["sdpa"] * L - SDPA) < 0.02 * SDPA, "This is one layer; there are 12."),
        Hint(lambda g: abs(g["sdpa"] * B - SDPA) < 0.02 * SDPA, "This is one window; the batch has 8."),
        Hint(lambda g: abs(g["sdpa"] * 4 - SDPA) < 0.02 * SDPA, "These are numbers: each has 4 bytes."),
        Hint(
            lambda g: abs(g["eager"] - _layers(16 * C + 4 + T)) < 0.02 * EAGER,
            "Each of the 12 heads has a table of its own.",
        ),
    ],
)

width, heads = 128, 4  # of the page's model
table = 16 * width + 4
over = Exercise(
    answer=2 * table / (table + heads),
    tolerance=0.01,
    hints=[
        Hint(table / heads, "This is the window. How many times as much is kept there?"),
        Hint(lambda ratio: abs(ratio - 1) < 0.01, "The table is as large as the rest; so together they are more."),
    ],
)


def mix(scores, values, block):
    """softmax(scores) @ values, with no more than ``block`` scores at a time."""
    largest, total = torch.tensor(-torch.inf), torch.tensor(0.0)
    mixture = torch.zeros(values.shape[1])
    for s, v in zip(scores.split(block), values.split(block), strict=True):
        new = torch.maximum(largest, s.max())
        w, shrink = (s - new).exp(), (largest - new).exp()
        largest, total, mixture = new, total * shrink + w.sum(), mixture * shrink + w @ v
    return mixture / total


def _no_rescaling(scores, values, block):
    parts = [(s - s.max()).exp() for s in scores.split(block)]
    total, pairs = sum(w.sum() for w in parts), zip(parts, values.split(block), strict=True)
    return sum(w @ v for w, v in pairs) / total


def _mean_of_blocks(scores, values, block):
    pairs = list(zip(scores.split(block), values.split(block), strict=True))
    return sum(s.softmax(-1) @ v for s, v in pairs) / len(pairs)


SCORES = torch.tensor([1.0, 0.0, 3.0, -1.0, 2.0, 5.0, 0.5])
VALUES = torch.arange(14.0).view(7, 2)

build = Exercise(
    build=mix,
    tolerance=1e-4,
    cases=[
        Case("one block", (SCORES, VALUES, 7)),
        Case("blocks of two, the last one short", (SCORES, VALUES, 2)),
        Case("one score at a time", (SCORES, VALUES, 1)),
        Case("large scores do not overflow", (100 * SCORES, VALUES, 3)),
    ],
    hints=[
        Hint(_no_rescaling, "When a larger maximum comes, what was added before has to be multiplied by exp(m − m′)."),
        Hint(_mean_of_blocks, "A softmax per block forgets that one block may matter more than another."),
    ],
)

EXERCISES = {1: fits, 2: over, 3: build}
