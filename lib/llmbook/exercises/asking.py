"""``check(chapter, number, answer)``: one call in a notebook that says right, or what went wrong.

What it says is printed, as plain text: it reads the same in a notebook, on the site, on a command line and to a
screen reader. In a solution, ``assert check(…)`` makes a wrong one fail.
"""

import textwrap
from dataclasses import dataclass
from typing import Any

from llmbook.exercises.comparing import AnswerError, kind, number, plain
from llmbook.exercises.exercise import Exercise
from llmbook.exercises.finding import UnknownExercise, exercises, resolve

WIDTH = 88  # of what is printed: a page shows so much beside its margins


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check; true where the answer is right. ``text`` is what ``check`` prints."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def _ipython_display_(self) -> None:
        """Nothing: a cell that ends in ``check(…)`` has printed it already."""


def check(chapter: str, number: int, answer: Any) -> Verdict:
    """Say whether ``answer`` is right for exercise ``number`` of ``chapter``, with a hint where the mistake is known.

    chapter: "2-concepts/attention", or "attention" while no other chapter is called so. answer: what the exercise asks
    for: a number, a sequence or tensor, a dict, one of its options, or a function; ``...`` says what that is. Nothing
    is raised for a wrong answer, an answer of the wrong kind or an unknown exercise: a line says so, and the verdict is
    false.
    """
    said = verdict(chapter, number, answer)
    print(textwrap.fill(said.text, WIDTH, break_long_words=False, break_on_hyphens=False))
    return said


def verdict(chapter: str, number: int, answer: Any) -> Verdict:
    """What ``check`` says, without printing it."""
    try:
        exercise, name = _find(chapter, number)
    except UnknownExercise as error:
        return Verdict(False, f"? {error}.")
    if answer is ... or answer is None:
        shown = "`...`" if answer is ... else "None"
        return Verdict(False, f"… {name}: put your answer in the place of {shown}. Expected: {exercise.expects}.")
    try:
        wrong = exercise.wrong(answer)
    except AnswerError as error:
        return Verdict(False, f"? {name}: {error}.")
    if wrong is None:
        return Verdict(True, f"✓ {name}: right{_repeated(answer, exercise)}.")
    hint = exercise.hint(answer) or "No usual mistake gives this: compare with the solution, step by step."
    return Verdict(False, f"✗ {name}: {wrong}. {hint}")


def _find(chapter: str, number: int) -> tuple[Exercise, str]:
    known = exercises(chapter)
    if number not in known:
        numbers = ", ".join(map(str, known))
        raise UnknownExercise(f"{resolve(chapter)} has no exercise {number!r}; its exercises are {numbers}")
    return known[number], f"{resolve(chapter)}, exercise {number}"


def _repeated(answer: Any, exercise: Exercise) -> str:
    """What was right, where it is short enough to be repeated."""
    if exercise.build:
        return f" in all {len(exercise.cases)} cases"
    if isinstance(answer, str):
        return f", {answer!r}"
    if not isinstance(answer, dict) and kind(answer) == "a number":
        return f", {number(plain(answer))}{f' {exercise.unit}' if exercise.unit else ''}"
    return ""
