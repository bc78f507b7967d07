"""The exercises of every chapter: ``check`` says whether an answer is right, and what went wrong where it is not.

The right answers stand in one small module a chapter (``part2_concepts/attention.py`` for ``2-concepts/attention``),
computed rather than typed, each beside the mistakes that readers usually make and the hint that belongs to each. A
module is loaded when its chapter is asked for.
"""

from llmbook.exercises.asking import Verdict, check, verdict
from llmbook.exercises.comparing import AnswerError
from llmbook.exercises.exercise import Case, Exercise, Hint
from llmbook.exercises.finding import UnknownExercise, exercises

__all__ = ["AnswerError", "Case", "Exercise", "Hint", "UnknownExercise", "Verdict", "check", "exercises", "verdict"]
