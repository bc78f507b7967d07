"""Objectives: Bayes' rule by hand, how far it must read, the middle moved to the end."""

from llmbook.exercises.exercise import Case, Exercise, Hint

by_hand = Exercise(
    answer=[0.1, 0.4],
    tolerance=0.005,
    hints=[
        Hint([0.1, 0.06], "This is p(b | a) p(b | b): divide it by the sum over both letters, 0.06 + 0.09."),
        Hint(
            [0.1, 0.6],
            "This is b after a, and b after b: (3) multiplies the two and divides by the sum over both letters.",
        ),
        Hint([0.9, 0.6], "These are the probabilities of a in the gap; b is asked for."),
    ],
)

needed = Exercise(
    between=(2, 6),
    hints=[
        Hint(lambda given: given == 0, "With no letter on the right there is no gain."),
        Hint(lambda given: given == 1, "One letter has a good part of the gain, but not nine tenths."),
        Hint(lambda given: given > 6, "It takes fewer: look for the smallest."),
    ],
)


def move(ids, start, end):
    """The middle at the end, each part behind its sign."""
    return [28, *ids[:start], 29, *ids[end:], 30, *ids[start:end]]


def _middle_stays(ids, start, end):
    return [28, *ids[:start], 30, *ids[start:end], 29, *ids[end:]]


def _one_more(ids, start, end):
    return [28, *ids[:start], 29, *ids[end + 1 :], 30, *ids[start : end + 1]]


def _without_signs(ids, start, end):
    return [*ids[:start], *ids[end:], *ids[start:end]]


def _untouched(ids, start, end):
    return ids


build = Exercise(
    build=move,
    cases=[
        Case("a middle", ([1, 2, 3, 4, 5], 1, 3)),
        Case("at the beginning", ([1, 2, 3], 0, 1)),
        Case("at the end", ([1, 2, 3], 1, 3)),
        Case("an empty middle", ([1, 2, 3], 2, 2)),
    ],
    hints=[
        Hint(_untouched, "Nothing is moved yet."),
        Hint(_middle_stays, "The middle comes last: prefix, suffix, middle."),
        Hint(_one_more, "The token at end belongs to the suffix."),
        Hint(_without_signs, "The three signs are missing: 28, 29 and 30."),
    ],
)

EXERCISES = {1: by_hand, 2: needed, 3: build}
