"""Text in a drawing: lines, subscripts and superscripts, and about how much room they take."""

import html
import re
import unicodedata

PART = re.compile(r"([_^])\{([^{}]*)\}")
SMALL = 0.75  # of the size: subscripts and superscripts


def markup(text: str, size: float) -> str:
    """``q_{1}·k^{T}`` as tspans, everything else literally."""
    parts, at, level = [], 0, 0.0

    def add(words: str, small: bool, target: float) -> None:
        nonlocal level
        if words:
            shift = f' dy="{target - level:.3g}"' if target != level else ""
            font = f' font-size="{size * SMALL:.3g}"' if small else ""
            inside = html.escape(words, quote=False)
            parts.append(f"<tspan{shift}{font}>{inside}</tspan>" if shift or font else inside)
            level = target

    for match in PART.finditer(text):
        add(text[at : match.start()], False, 0)
        add(match[2], True, size * (0.28 if match[1] == "_" else -0.36))
        at = match.end()
    add(text[at:], False, 0)
    return "".join(parts)


def plain(text: str) -> str:
    """The same as a screen reader is to say it."""
    return PART.sub(r" \2", text).replace("\n", " ")


def width(text: str, size: float) -> float:
    """About how wide the widest line is; a little less than the widest font sets it."""
    return max(sum(map(_advance, PART.sub(r"\2", line))) for line in text.split("\n")) * size


def _advance(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    return 0.3 if character in " .,:;'|!ijl()[]" else 0.62 if character.isupper() or character in "mwMW–—=+" else 0.5
