"""What the parts of a drawing are made of: places to connect, panels to open, curves with a head."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(frozen=True)
class Place:
    """A rectangle of the drawing; its sides are points for arrows."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def left(self) -> Point:
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> Point:
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> Point:
        return self.x + self.width / 2, self.y + self.height


@dataclass(frozen=True)
class Panel:
    """What a box says when it is clicked or has the focus: a title, and facts by name.

    facts: {"shape": "[B, T, C]", "parameters": "1,769,472"}; code: lines of Python, shown as they are.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    code: str = ""


def curve(start: Point, end: Point, bend: float) -> tuple[str, Point, float, Point]:
    """A line or an arc, stopped where its head begins: path up to ``end``, the end, its direction and its middle.

    bend: how far the middle lies off the straight line, as a share of its length; to the left of the way for > 0.
    """
    (x0, y0), (x1, y1) = start, end
    across = (y1 - y0, x0 - x1)  # to the left of the way, as long as the way
    cx, cy = (x0 + x1) / 2 + 2 * bend * across[0], (y0 + y1) / 2 + 2 * bend * across[1]
    middle = (x0 + 2 * cx + x1) / 4, (y0 + 2 * cy + y1) / 4
    path = f"M{x0:.1f} {y0:.1f}" + (f"Q{cx:.1f} {cy:.1f} " if bend else "L")
    return path, end, math.atan2(y1 - cy, x1 - cx), middle


def head(tip: Point, angle: float, size: float) -> tuple[str, Point]:
    """A triangle that ends in ``tip``, and the middle of its base, where the line stops."""
    base = tip[0] - size * math.cos(angle), tip[1] - size * math.sin(angle)
    dx, dy = size * 0.45 * math.sin(angle), -size * 0.45 * math.cos(angle)
    corners = (tip, (base[0] + dx, base[1] + dy), (base[0] - dx, base[1] - dy))
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z", base


def on_clock(x: float, y: float, radius: float, turns: float) -> Point:
    """The end of a hand after ``turns`` from 12 o'clock, clockwise."""
    return x + radius * math.sin(2 * math.pi * turns), y - radius * math.cos(2 * math.pi * turns)
