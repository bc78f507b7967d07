"""What an exercise is: a right answer, or a function to be built, with the usual mistakes and a hint for each.

Exercise(answer=0.45, tolerance=0.005, hints=[Hint(when=0.71, says="You left out the division by √d.")])
Exercise(answer="sigmoid", options=["softmax", "sigmoid"])
Exercise(between=(0.3, 0.6))                                   # any number in a measured band
Exercise(build=reference, cases=[Case("of four", (log_p, 1))], hints=[Hint(when=wrong, says="…")])
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from llmbook.exercises.comparing import AnswerError, Tolerance, difference, kind, number, plain, short


@dataclass(frozen=True)
class Hint:
    """What to say to one mistake.

    when: the wrong answer that the mistake leads to, or a function of the answer that recognises it. Of an exercise to
    build, it is a function that makes the mistake: the hint is given where the reader's function does the same.
    """

    when: Any
    says: str


@dataclass(frozen=True)
class Case:
    """One trial of a function that a reader builds: the arguments ``given`` and what the trial proves.

    expected: the right result; by default, what the exercise's own function gives. test: instead of a comparison, a
    function of the reader's function that returns None, or what is wrong; ``given`` is then not used.
    """

    proves: str
    given: tuple = ()
    expected: Any = field(default=None, kw_only=True)
    test: Callable[[Callable], str | None] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise; exactly one of ``answer``, ``between`` and ``build`` says what is right.

    answer: a number, a sequence or tensor, a dict, a text, or a function without arguments that computes one of these
    when it is first needed. options: the texts to choose from. between: (low, high), a band that a number lies in.
    build: a function that does what the reader's is to do, tried on ``cases``.
    tolerance: how far a number may lie from the right one; relative: the same as a share of it. Without either, whole
    numbers must be equal and others lie within one part in a hundred. unit: "bits" or "nats" recognises the other one.
    hints: tried in order, the first that fits is given. Raises ValueError for a definition that cannot be checked.
    """

    answer: Any = None
    between: tuple[float, float] | None = None
    build: Callable | None = None
    options: Sequence[str] = ()
    cases: Sequence[Case] = ()
    tolerance: float | None = None
    relative: float | None = None
    unit: str = ""
    hints: Sequence[Hint] = ()

    def __post_init__(self):
        given = [name for name in ("answer", "between", "build") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"an exercise has one of answer, between and build; this one has {given or 'none'}")
        if bool(self.build) != bool(self.cases):
            raise ValueError("build and cases go together: a function is tried on cases")
        if self.options and self.answer not in self.options:
            raise ValueError(f"the answer {self.answer!r} is none of the options {list(self.options)}")

    @cached_property
    def right(self) -> Any:
        """The right answer, computed where it is given as a function."""
        return self.answer() if callable(self.answer) else self.answer

    @property
    def expects(self) -> str:
        """What kind of answer is asked for, in words."""
        if self.build:
            return f"a function, tried on {len(self.cases)} cases"
        if self.options:
            return "one of " + ", ".join(map(repr, self.options))
        what = "a number" if self.between else kind(self.right)
        return f"{what} in {self.unit}" if self.unit else what

    def wrong(self, answer: Any) -> str | None:
        """What is wrong with an answer, in words; None for a right one. Raises AnswerError for the wrong kind."""
        if self.build:
            return self._failing(answer)
        if self.between:
            low, high = self.between
            if told := difference(answer, low, Tolerance(high - low, 0)):
                return told
            return None if low <= float(plain(answer)) <= high else f"{number(answer)} is not it"
        if self.options and (not isinstance(answer, str) or not self._among(answer)):
            raise AnswerError(f"expected {self.expects}, got {short(answer)}")
        return difference(answer, self.right, self._tolerance(self.right))

    def hint(self, answer: Any) -> str:
        """What to say to a wrong answer: the hint that belongs to the mistake, or nothing."""
        for hint in self.hints:
            if self._fits(hint, answer):
                return hint.says
        return self._usual(answer)

    def _among(self, answer: str) -> bool:
        return any(difference(answer, option, Tolerance(0, 0)) is None for option in self.options)

    def _tolerance(self, right: Any) -> Tolerance:
        if self.tolerance is None and self.relative is None:
            whole = isinstance(right, int) or getattr(plain(right), "dtype", None) in ("int64", "int32")
            whole = whole or (isinstance(right, (list, tuple)) and all(isinstance(one, int) for one in right))
            return Tolerance(0, 0 if whole else 0.01)
        return Tolerance(self.tolerance or 0, self.relative or 0)

    def _fits(self, hint: Hint, answer: Any) -> bool:
        try:
            if self.build:
                return all(self._same(case, answer, hint.when) for case in self.cases if not case.test)
            if callable(hint.when):
                return bool(hint.when(answer))
            return difference(answer, hint.when, self._tolerance(self.right)) is None
        except Exception:  # what cannot be compared with a mistake is not that mistake
            return False

    def _usual(self, answer: Any) -> str:
        """Mistakes that any number may contain: of unit, of sign, of a share given in per cent."""
        if self.build or self.options or not isinstance(right := self.right, (int, float)) or not right:
            return ""
        ratios: dict[float, str] = {
            100: "This is the right share in per cent: give it as a part of one.",
            -1: "Only the sign is wrong.",
        }
        ratios |= {0.01: "This is a hundredth of it: is it a share where per cent are asked for?"}
        if self.unit == "bits":
            ratios[0.6931472] = "This is the right number in nats: divide by ln 2, or take the logarithm to base 2."
        if self.unit == "nats":
            ratios[1.442695] = "This is the right number in bits: take the natural logarithm."
        near = Tolerance(0, 0.005)
        found = (words for ratio, words in ratios.items() if near.near(float(plain(answer)), ratio * right))
        return next(found, "")

    def _failing(self, answer: Any) -> str | None:
        if not callable(answer):
            raise AnswerError(f"expected a function, got {short(answer)}")
        for case in self.cases:
            try:
                told = case.test(answer) if case.test else self._compared(case, _called(answer, case))
            except AnswerError as error:
                told = str(error)
            except Exception as error:
                told = f"it raised {type(error).__name__}: {error}"
            if told:
                return f"the case “{case.proves}” fails: {told}"
        return None

    def _compared(self, case: Case, result: Any) -> str | None:
        expected = _called(self.build, case) if case.expected is None and self.build else case.expected
        wanted = expected if isinstance(expected, tuple) else (expected,)
        results = result if isinstance(expected, tuple) and isinstance(result, tuple) else (result,)
        if len(results) != len(wanted):
            return f"expected {len(wanted)} results, got {len(results)}"
        for one, right in zip(results, wanted, strict=True):
            if told := difference(one, right, self._tolerance(right)):
                return told
        return None

    def _same(self, case: Case, one: Callable, other: Callable) -> bool:
        result = _called(other, case)
        return difference(_called(one, case), result, self._tolerance(result)) is None


def _called(function: Callable, case: Case) -> Any:
    """The result for copies of the arguments: a function that changes what it is given spoils no later case."""
    return function(*copy.deepcopy(case.given))
