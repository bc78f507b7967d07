"""Whether two answers are the same: numbers within a tolerance, collections element by element, texts without case.

An answer of the wrong kind (a text for a number, NaN, another shape) is no wrong answer but an error of its own, and
``AnswerError`` says what was expected.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np


class AnswerError(ValueError):
    """An answer that cannot be compared; the message says what was expected."""


@dataclass(frozen=True)
class Tolerance:
    """How far a number may lie from the right one: the larger of an absolute and a relative distance."""

    absolute: float
    relative: float

    def near(self, given: Any, right: Any) -> Any:
        """Element by element, for numbers and arrays."""
        return np.abs(given - right) <= np.maximum(self.absolute, self.relative * np.abs(right)) + 1e-12


def kind(right: Any) -> str:
    """What a right answer is, in words."""
    if isinstance(right, str):
        return "a text"
    if isinstance(right, Mapping):
        return "a dict with the keys " + ", ".join(map(repr, right))
    shape = np.shape(plain(right))
    if not shape:
        return "a number"
    return f"a sequence of {shape[0]} numbers" if len(shape) == 1 else f"numbers of the shape {shape}"


def plain(value: Any) -> Any:
    """A tensor of any kind as a numpy array; everything else as it is."""
    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    return value


def difference(given: Any, right: Any, tolerance: Tolerance) -> str | None:
    """What distinguishes ``given`` from ``right``, in words; None where nothing does.

    Raises AnswerError where the two cannot be compared.
    """
    given, right = plain(given), plain(right)
    if isinstance(right, str):
        if not isinstance(given, str):
            raise AnswerError(f"expected a text, got {short(given)}")
        return None if _folded(given) == _folded(right) else f"{given!r} is not it"
    if isinstance(right, Mapping):
        return _of_mappings(given, right, tolerance)
    return _of_numbers(_numbers(given, right), _numbers(right, right), tolerance)


def short(value: Any) -> str:
    """A value as an error message shows it."""
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 60 else f"{type(value).__name__} {text[:57]}..."


def _of_mappings(given: Any, right: Mapping, tolerance: Tolerance) -> str | None:
    if not isinstance(given, Mapping):
        raise AnswerError(f"expected {kind(right)}, got {short(given)}")
    if missing := [key for key in right if key not in given]:
        raise AnswerError(f"the key {missing[0]!r} is missing; expected {kind(right)}")
    for key in right:
        if told := difference(given[key], right[key], tolerance):
            return f"{key!r}: {told}"
    return None


def _numbers(given: Any, right: Any) -> np.ndarray:
    """``given`` as an array of numbers of the shape of ``right``."""
    if isinstance(given, (str, bytes, bool, np.bool_)) or callable(given):
        raise AnswerError(f"expected {kind(right)}, got {short(given)}")
    try:
        array = np.asarray([plain(one) for one in given] if isinstance(given, (list, tuple)) else given)
    except ValueError:
        raise AnswerError(f"expected {kind(right)}, got rows of different length") from None
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "b" and np.asarray(right).dtype.kind != "b"):
        raise AnswerError(f"expected {kind(right)}, got {short(given)}")
    array = array.astype(float)
    wanted = np.shape(right)
    if array.shape != wanted and not (array.size == 1 and wanted == ()):
        raise AnswerError(f"expected {kind(right)}, got {kind(array)}")
    if np.isnan(array).any():
        raise AnswerError(f"the answer holds NaN, not a number{_place(np.isnan(array))}")
    return array.reshape(wanted)


def _of_numbers(given: np.ndarray, right: np.ndarray, tolerance: Tolerance) -> str | None:
    with np.errstate(invalid="ignore"):  # infinity less infinity
        same = tolerance.near(given, right) | (given == right)
    if same.all():
        return None
    if not right.shape:
        return f"{number(float(given))} is not it"
    return f"{number(float(given[~same][0]))} is wrong{_place(~same)}"


def _place(wrong: np.ndarray) -> str:
    if not wrong.shape:
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    at = first[0] if len(first) == 1 else first
    count = int(wrong.sum())
    return f" at index {at}" + (f" (and in {count - 1} more places)" if count > 1 else "")


def number(value: Real | float) -> str:
    """A number as an answer is repeated: whole ones with all their digits."""
    value = float(value)
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
