"""Alternatives to attention: bytes of a cache, writes with a weak strength, a step of the delta rule."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

memory = Exercise(
    answer=[1024.0, 256.0, 128.0],
    tolerance=0.01,
    hints=[
        Hint([512.0, 256.0, 64.0], "A key and a value are kept for each head: there is a factor of 2."),
        Hint([1024.0, 512.0, 128.0], "A latent vector is kept once: keys and values are both made from it."),
        Hint([1024.0, 256.0, 1024.0], "With a window only the last 1,024 tokens are kept."),
        Hint([32.0, 8.0, 4.0], "This is one layer; there are 32."),
    ],
)

writes = Exercise(
    answer=[4.0, 2.0],
    tolerance=0.01,
    hints=[
        Hint([3.0, 1.0], "After these writes an eighth and a fifth are left: more than a tenth."),
        Hint([1.0, 1.0], "Only strength 1 replaces the value at once; a part 1 − β of the old one stays."),
    ],
)


def step(S, k, v, beta):
    """The state after one more pair."""
    return S + beta * torch.outer(k, v - k @ S)


def _adds(S, k, v, beta):
    return S + beta * torch.outer(k, v)


def _turned(S, k, v, beta):
    return S + beta * torch.outer(v - k @ S, k)


def _full(S, k, v, beta):
    return S + torch.outer(k, v - k @ S)


def _never(S, k, v, beta):
    return S


def _sequences(step):
    """None if ``step`` agrees with the definition over whole sequences, else what is wrong."""
    g = torch.Generator().manual_seed(0)
    for width, length in ((2, 3), (4, 12), (8, 40)):
        mine = theirs = torch.zeros(width, width)
        for t in range(length):
            k = torch.nn.functional.normalize(torch.randn(width, generator=g), dim=-1)
            v, beta = torch.randn(width, generator=g), float(torch.rand((), generator=g))
            mine, theirs = mine + beta * torch.outer(k, v - k @ mine), step(theirs, k, v, beta)
            if not torch.allclose(mine, theirs, atol=1e-4):
                return f"width {width}: the state differs after token {t}"
    return None


def _vectors(*rows):
    return tuple(torch.tensor(row) for row in rows)


EMPTY, FULL = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 2.0]])

build = Exercise(
    build=step,
    cases=[
        Case("an empty state", (EMPTY, *_vectors([1.0, 0.0], [5.0, 1.0]), 1.0)),
        Case("a key that is there", (FULL, *_vectors([1.0, 0.0], [5.0, 1.0]), 1.0)),
        Case("a strength of a half", (FULL, *_vectors([0.0, 1.0], [5.0, 1.0]), 0.5)),
        Case("whole sequences", test=_sequences),
    ],
    hints=[
        Hint(_adds, "This adds the value; the delta rule writes the difference to what is read."),
        Hint(_turned, "Keys choose the row and values fill it: torch.outer(k, …)."),
        Hint(_full, "The strength β is missing."),
        Hint(_never, "Something has to be written."),
    ],
)

EXERCISES = {1: memory, 2: writes, 3: build}
