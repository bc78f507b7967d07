"""Reach: bits in a state, where a forget gate starts, a register for the last letters."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

BLANK = 16

bits = Exercise(
    answer=[32.0, 32.0, 16.0],
    tolerance=0.01,
    hints=[
        Hint([32.0, 64.0, 16.0], "Blanks change the distance; the number of letters to hold stays 8."),
        Hint([128.0, 128.0, 32.0], "A letter of an alphabet of 16 takes log₂ 16 bits, not 16."),
        Hint([8 * math.log(16), 8 * math.log(16), 16 * math.log(2)], "These are nats: take the logarithm to base 2."),
    ],
)

GATE = 0.5 ** (1 / 16)
START = math.log(GATE / (1 - GATE))

start = Exercise(
    answer=START,
    tolerance=0.03,
    hints=[
        Hint(GATE, "This is the gate itself; b is the number whose σ it is."),
        Hint(0.0, "With b = 0 the gate is a half: a half is left after one step, not after sixteen."),
        Hint(math.log(GATE), "The inverse of σ is ln(g / (1 − g)), not ln g."),
    ],
)


def step(places, token):
    """The last letters, newest first, after one more token."""
    return places if token == BLANK else [token, *places[:-1]]


def _blanks_too(places, token):
    return [token, *places[:-1]]


def _oldest_first(places, token):
    return places if token == BLANK else [*places[1:], token]


def _grows(places, token):
    return places if token == BLANK else [token, *places]


def _never(places, token):
    return places


def _reads(step):
    """None if ``step`` answers random sequences of several n and distances, else what is wrong."""
    g = torch.Generator().manual_seed(0)
    for n, blanks in ((1, 15), (2, 3), (4, 3), (4, 0)):
        letters, places = torch.randint(BLANK, (n + 4,), generator=g).tolist(), [None] * n
        for k, letter in enumerate(letters):
            if k >= n and places[-1] != letters[k - n]:
                return f"n = {n}, {blanks} blanks: letter {k - n} should stand in the last place, not {places[-1]}"
            for token in (letter, *[BLANK] * blanks):
                places = step(places, token)
    return None


build = Exercise(
    build=step,
    cases=[
        Case("a letter", ([3, 5], 7)),
        Case("a blank", ([3, 5], BLANK)),
        Case("four places", ([3, 5, 1, 2], 9)),
        Case("whole sequences", test=_reads),
    ],
    hints=[
        Hint(_blanks_too, "A blank changes nothing: only letters are written."),
        Hint(_oldest_first, "The newest letter comes first, and the last place is the oldest."),
        Hint(_grows, "The list keeps its length: the last letter falls out."),
        Hint(_never, "A letter has to be written."),
    ],
)

EXERCISES = {1: bits, 2: start, 3: build}
