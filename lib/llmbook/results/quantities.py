"""The numbers of a run, each under a name that the next run of the same code gives it again.

A number that was printed is named after its cell and its line, in which it is written ``#`` and every other number
``…``: ``final: held-out text: # nats a token, … bits per byte``. ``True`` and ``False`` are numbers too, 1 and 0. A
number that a chapter names itself keeps that name.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DIGITS = r"(?<![\w.,-])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?%?(?![\w/]|\.\d)"
NUMBER = re.compile(rf"{DIGITS}|\b(?:True|False|nan)\b")
# What the clock says belongs to the machine: a number before such a word, a line that begins with one, a progress bar.
CLOCK = re.compile(r"\s?(?:[nµm]?s|min|h|seconds?|minutes?|hours?|\w+/s)\b")
PASSING = re.compile(
    r"^(?:seconds|minutes)\b| left$"
    r"|\b\d{4}-\d\d-\d\d\b|\bCHAPTER="  # the origin of a recorded run
    r"|^(?:cpu|cuda|mps)(?::\d+)?, \w+: "  # a runtime, and the machine it was chosen for
)
# What a chapter was told to do, and how long it took, are not its results.
SETTINGS = {"config", "training", "settings", "scale", "steps", "budget", "seeds", "seed", "batch_size"}
SETTINGS |= {"corpus", "text"}
CLOCKS = {"seconds", "minutes"}


@dataclass(frozen=True)
class Quantity:
    """A number and how finely it is known: one unit of the last digit that was printed."""

    value: float
    unit: float = 0.0


def printed(cell: str, text: str) -> dict[str, Quantity]:
    """The numbers in what ``cell`` printed, by name, without clocks; a line that comes twice is counted: ``(2)``."""
    found: dict[str, Quantity] = {}
    seen: Counter[str] = Counter()
    for line in text.splitlines():
        line = " ".join(line.split())
        if PASSING.search(line):
            continue
        matches = list(NUMBER.finditer(line))
        pattern = NUMBER.sub("…", line)
        seen[pattern] += 1
        again = f" ({seen[pattern]})" if seen[pattern] > 1 else ""
        for k, match in enumerate(matches):
            if CLOCK.match(line, match.end()):
                continue
            found[f"{cell}: {_marked(line, k)}{again}"] = _read(match[0])
    return found


def _marked(line: str, k: int) -> str:
    """The line with # in place of its number ``k`` and … in place of the others."""
    places = itertools.count()
    return NUMBER.sub(lambda _: "#" if next(places) == k else "…", line)


def named(data: Mapping[str, Any]) -> dict[str, Quantity]:
    """The single numbers in ``data``, the argument of ``record``: those of an inner mapping as ``outer, inner``.

    Lists (curves, seeds), texts, settings and clocks are left out.
    """
    found: dict[str, Quantity] = {}
    for name, value in data.items():
        if name in SETTINGS | CLOCKS:
            continue
        if isinstance(value, Mapping):
            found |= {f"{name}, {inner}": quantity for inner, quantity in named(value).items()}
        elif isinstance(value, (int, float)):
            found[str(name)] = Quantity(float(value))
    return found


def _read(word: str) -> Quantity:
    if word in ("True", "False"):
        return Quantity(float(word == "True"))
    if word == "nan":
        return Quantity(math.nan)
    digits = word.replace(",", "").replace("−", "-").removesuffix("%")
    mantissa, _, exponent = digits.lower().partition("e")
    places = len(mantissa.partition(".")[2])
    rounded = places or exponent or word.endswith("%")  # a whole number that is no share of a hundred was counted
    return Quantity(float(digits), 10.0 ** (int(exponent or 0) - places) if rounded else 0.0)
