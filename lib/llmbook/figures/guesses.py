"""What a reader may be asked before a figure, what counts as near, and the words that say so.

A ``Question`` is one of three kinds: to *pick* one of some options, to *place* a number on an axis, or to *draw* a line
over given places. ``verdict`` compares a guess with what was measured; web/predict.js says the same words in a page
(tests/figures/test_predict.py compares them), since there the guess is made without a kernel.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmbook.figures.theme import FigureError

STEPS = 100  # of a slider, from one end of the axis to the other


@dataclass(frozen=True)
class Question:
    """One question with its measured answer, checked; made by ``question``."""

    text: str
    kind: str  # "pick", "place" or "draw"
    answer: list  # pick: indices of the right options; place: [low, high]; draw: [low, high] a place
    options: list[str]
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    unit: str = ""
    over: list[float] | None = None  # draw: where on the figure's x axis the places lie
    names: list[str] | None = None  # draw: what the places are called
    mark: str | None = None  # place: the axis of the figure on which the guess is marked

    @property
    def id(self) -> str:
        """Names the question in the reader's browser: another wording is another question, another answer is not."""
        asked = [self.text, self.kind, self.options, self.names, self.low, self.high, self.log]
        return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()[:12]

    def spec(self) -> dict:
        """The question as the page reads it."""
        base = {"id": self.id, "kind": self.kind, "question": self.text, "answer": self.answer}
        if self.kind == "pick":
            return {**base, "options": self.options}
        axis = {"low": self.low, "high": self.high, "log": self.log, "unit": self.unit, "steps": STEPS}
        more = {"mark": self.mark} if self.kind == "place" else {"over": self.over, "names": self.names}
        return {**base, **axis, **more}

    def value(self, step: int) -> float:
        """The number at a step of the slider."""
        part = step / STEPS
        raw = self.low * (self.high / self.low) ** part if self.log else self.low + part * (self.high - self.low)
        return float(f"{raw:.3g}")

    def verdict(self, guess: Any) -> str:
        """In one line, how near ``guess`` was: an index for pick, a number for place, a number a place for draw."""
        options = self.options or []
        if self.kind == "pick":
            if guess in self.answer:
                return f"You said: {options[guess]}. Measured: the same."
            measured = " or ".join(options[i] for i in self.answer)
            return f"You said: {options[guess]}. Measured: {measured}."
        if self.kind == "place":
            low, high = self.answer
            side = "below" if guess < low else "above"
            if low <= guess <= high:
                how = "within"
            elif self.log:
                how = f"{side} by a factor of {number(low / guess if guess < low else guess / high)}"
            else:
                how = f"{side} by {self._with_unit(low - guess if guess < low else guess - high)}"
            return f"You said {self._with_unit(guess)}; measured {self._band(self.answer)}: {how}."
        offs = [self._off(v, band) for v, band in zip(guess, self.answer, strict=True)]
        rest = ""
        if any(offs):
            worst = offs.index(max(offs))
            band = self.answer[worst]
            side = "below" if guess[worst] < band[0] else "above"
            rest = f", and is farthest off at {self.names[worst]}, where it lies {side} {self._band(band)}"
        hits = sum(off == 0 for off in offs)
        return f"Your line agrees with what was measured at {hits} of {len(offs)} places{rest}."

    def _off(self, v: float, band: Sequence[float]) -> float:
        scale = math.log if self.log else float
        gap = scale(band[0]) - scale(v) if v < band[0] else scale(v) - scale(band[1]) if v > band[1] else 0.0
        return gap / (scale(self.high) - scale(self.low))

    def _with_unit(self, v: float) -> str:
        space = "" if not self.unit or self.unit[0] in "%°" else " "
        return f"{number(v)}{space}{self.unit}"

    def _band(self, band: Sequence[float]) -> str:
        low, high = band
        return self._with_unit(low) if low == high else f"{number(low)} to {self._with_unit(high)}"


def question(
    text: str,
    *,
    answer: Any,
    options: Sequence | None,
    between: tuple[float, float] | None,
    over: Sequence | None,
    names: Sequence[str] | None,
    band: float,
    log: bool,
    unit: str,
    mark: str | None,
) -> Question:
    """A checked ``Question``; see ``predict`` for the arguments. Raises FigureError naming what does not fit."""
    if not text.strip():
        raise FigureError("predict: the question is empty; say what the reader is to predict")
    if (options is None) == (between is None):
        raise FigureError(f"predict {text!r}: give either options=[…] to choose from or between=(low, high), an axis")
    if options is not None:
        return _pick(text, [str(option) for option in options], answer, over)
    low, high = _axis(text, between, log)
    if mark not in (None, "x", "y"):
        raise FigureError(f"predict {text!r}: mark={mark!r}; it is the axis of the figure, 'x' or 'y', or None")
    if over is None:
        bands, kind = [_measured(text, answer, band, low, high, "answer")], "place"
        return Question(text, kind, bands[0], [], low, high, log, unit, mark=mark)
    places = [float(x) for x in over]
    called = [number(x) for x in places] if names is None else [str(name) for name in names]
    if len(places) < 2 or len(called) != len(places) or len(set(called)) != len(called):
        raise FigureError(
            f"predict {text!r}: over={list(over)!r} and names={called!r}; give two or more, all different"
        )
    answers = list(answer) if np.ndim(answer) else [answer]
    if len(answers) != len(places):
        raise FigureError(f"predict {text!r}: {len(answers)} answers for {len(places)} places; give one for each")
    pairs = zip(answers, called, strict=True)
    bands = [_measured(text, one, band, low, high, f"the answer at {name}") for one, name in pairs]
    return Question(text, "draw", bands, [], low, high, log, unit, places, called)


def number(v: float) -> str:
    """Three digits, or a whole number with commas from a thousand on; as web/predict.js writes it."""
    if abs(v) >= 1000:
        return f"{math.floor(v + 0.5):,}"
    return np.format_float_positional(float(f"{v:.3g}"), trim="-")


def _pick(text: str, options: list[str], answer: Any, over: Sequence | None) -> Question:
    if over is not None:
        raise FigureError(f"predict {text!r}: over= belongs to a line between=(low, high), not to options")
    if len(options) < 2 or len(set(options)) != len(options):
        raise FigureError(f"predict {text!r}: options={options!r}; give two or more, all different")
    answers = [str(one) for one in (answer if isinstance(answer, (list, tuple, set)) else [answer])]
    if unknown := [one for one in answers if one not in options]:
        raise FigureError(f"predict {text!r}: the answer {unknown[0]!r} is not one of {options}")
    if not answers:
        raise FigureError(f"predict {text!r}: the answer is an empty list; offer an option that says so")
    return Question(text, "pick", sorted({options.index(one) for one in answers}), options)


def _axis(text: str, between: tuple[float, float], log: bool) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in between)
    except (TypeError, ValueError):
        raise FigureError(f"predict {text!r}: between={between!r}; give the two ends of the axis") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
        need = "0 < low < high" if log else "low < high"
        raise FigureError(f"predict {text!r}: between={between!r}; the axis needs {need}")
    return low, high


def _measured(text: str, answer: Any, band: float, low: float, high: float, what: str) -> list[float]:
    """An answer as [low, high]: a pair as it is, a number with the tolerance ``band`` on either side."""
    pair = answer if np.ndim(answer) else (answer - band, answer + band)
    ends = [float(end) for end in pair]
    if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] > ends[1] or band < 0:
        raise FigureError(f"predict {text!r}: {what} is {answer!r}, band={band!r}; give a number or (low, high)")
    if ends[0] == ends[1] and not np.ndim(answer):
        raise FigureError(f"predict {text!r}: {what} is {answer!r} without a band; say what counts as near: band=…")
    if ends[1] < low or ends[0] > high:
        raise FigureError(f"predict {text!r}: {what} is {answer!r}, outside the axis {(low, high)}; widen between=")
    return [float(f"{max(ends[0], low):.6g}"), float(f"{min(ends[1], high):.6g}")]
