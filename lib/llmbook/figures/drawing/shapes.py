"""``Drawing``: boxes, text and arrows, and the shapes of this book: cells, bars, clocks, braces, layers.

drawing = Drawing(360, 120, alt="A query reads two values, the second with weight 0.8.")
query = drawing.box(10, 40, 80, 40, "q_{3}", role="blue")
drawing.arrow(query.right, (340, 60), weight=0.8, text=f"{0.8:.2f}")
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from llmbook.figures.drawing.canvas import Area
from llmbook.figures.drawing.parts import Panel, Place, Point, on_clock
from llmbook.figures.theme import FigureError


class Drawing(Area):
    """A drawing that is being made; every part returns its ``Place``, for arrows to begin and end at.

    alt: what it says to a reader who cannot see it. scroll: wider than a phone, and moved under a finger there.
    Colours are roles: "ink" and "soft" for what is neutral, and "blue", "red", "green", "pink", "sky", "orange".
    Text may hold ``_{sub}``, ``^{super}`` and line breaks. Raises FigureError without alt, for an unknown role, for
    letters too small on a phone, and for what is outside the area or wider than its box.
    """

    def cells(
        self,
        x: float,
        y: float,
        values: Sequence[Sequence[Any]],
        *,
        width: float = 34,
        height: float = 26,
        rows: Sequence[str] = (),
        columns: Sequence[str] = (),
        digits: int | None = 2,
        most: float | None = None,
        role: str = "blue",
        negative: str = "red",
        size: float = 13,
    ) -> list[list[Place]]:
        """A grid, a row for each of ``values``: numbers, tinted by their share of ``most``, or texts; None: empty.

        rows, columns: names beside and above. digits: decimals; None draws no numbers. most: the number that has the
        full tint, by default the largest. negative: the role of numbers below zero.
        """
        values = [list(row.tolist() if hasattr(row, "tolist") else row) for row in values]
        numbers = [abs(v) for row in values for v in row if isinstance(v, (int, float))]
        most = most or max(numbers, default=1) or 1
        places = []
        for i, row in enumerate(values):
            places.append(
                [
                    self._cell(x, y, i, j, v, width, height, digits, most, role, negative, size)
                    for j, v in enumerate(row)
                ]
            )
        for i, name in enumerate(rows):
            self.text(x - 6, y + (i + 0.5) * height, name, anchor="end", size=size)
        for j, name in enumerate(columns):
            self.text(x + (j + 0.5) * width, y - 0.7 * size, name, size=size)
        return places

    def bar(
        self, x: float, y: float, length: float, share: float, *, height: float = 16, text: str = "", role: str = "blue"
    ) -> Place:
        """A bar that fills ``share`` (0 to 1) of ``length``, with text behind its end."""
        if not 0 <= share <= 1 + 1e-6:
            raise FigureError(f"a bar's share is {share:g}; it lies between 0 and 1")
        place = self._inside(Place(x, y, length * share, height), text or "a bar")
        self._parts.append(
            f'<rect class="dr-solid dr-{self._role(role)}" x="{x:g}" y="{y:g}" width="{length * share:.1f}" '
            f'height="{height:g}"/>'
        )
        if text:
            self.text(x + length * share + 5, y + height / 2, text, anchor="start", size=13)
        return place

    def clock(
        self,
        x: float,
        y: float,
        radius: float,
        turns: float,
        *,
        arc: tuple[float, float] | None = None,
        text: str = "",
        role: str = "blue",
    ) -> Place:
        """A clock whose hand has made ``turns`` from 12 o'clock. arc: a sector, from and to in turns, shaded."""
        place = self._inside(Place(x - radius, y - radius, 2 * radius, 2 * radius), text or "a clock")
        if arc is not None:
            self._parts.append(self._sector(x, y, radius, *arc, role))
        end = on_clock(x, y, radius * 0.86, turns)
        look = f"dr-{self._role(role)}"
        self._parts.append(
            f'<circle class="dr-ring dr-ink" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'
            f'<path class="dr-line {look}" stroke-width="3" d="M{x:g} {y:g}L{end[0]:.1f} {end[1]:.1f}"/>'
            f'<circle class="dr-head {look}" cx="{end[0]:.1f}" cy="{end[1]:.1f}" r="3.5"/>'
        )
        if text:
            self.text(x, y + radius + 12 * (1 + text.count("\n") * 0.7), text, size=13)
        return place

    def brace(self, start: Point, end: Point, text: str, *, size: float = 13, depth: float = 9) -> None:
        """A brace from ``start`` to ``end``, upright or level, its point and text to the left of the way."""
        (x0, y0), (x1, y1) = start, end
        if x0 != x1 and y0 != y1:
            raise FigureError(f"a brace is upright or level; this one goes from {start} to {end}")
        level = y0 == y1
        out = depth * (1 if (x1 < x0 if level else y1 > y0) else -1)
        mx, my = (x0 + x1) / 2, (y0 + y1) / 2
        if level:
            path = f"M{x0:g} {y0:g}q0 {out / 2:g} {(mx - x0) / 2:g} {out / 2:g}T{mx:g} {y0 + out:g}"
            path += f"M{x1:g} {y1:g}q0 {out / 2:g} {(mx - x1) / 2:g} {out / 2:g}T{mx:g} {y0 + out:g}"
            self.text(mx, my + out + (0.8 * size if out > 0 else -0.8 * size), text, size=size)
        else:
            path = f"M{x0:g} {y0:g}q{out / 2:g} 0 {out / 2:g} {(my - y0) / 2:g}T{x0 + out:g} {my:g}"
            path += f"M{x1:g} {y1:g}q{out / 2:g} 0 {out / 2:g} {(my - y1) / 2:g}T{x0 + out:g} {my:g}"
            self.text(mx + out + (5 if out > 0 else -5), my, text, size=size, anchor="start" if out > 0 else "end")
        self._parts.append(f'<path class="dr-line dr-ink" stroke-width="1.5" d="{path}"/>')

    def layers(
        self,
        x: float,
        y: float,
        names: Sequence[str],
        *,
        width: float,
        height: float = 34,
        gap: float = 18,
        roles: Sequence[str] | Mapping[str, str] = (),
        panels: Mapping[str, Panel] | None = None,
    ) -> list[Place]:
        """Boxes in a column, the first at the bottom, an arrow from each to the one above; ``y``: the top of all."""
        named = dict(zip(names, roles, strict=False)) if not isinstance(roles, Mapping) else roles
        tops = [y + (len(names) - 1 - i) * (height + gap) for i in range(len(names))]
        places = [
            self.box(x, top, width, height, n, role=named.get(n, "ink"), panel=(panels or {}).get(n))
            for n, top in zip(names, tops, strict=True)
        ]
        for below, above in pairwise(places):
            self.arrow(below.top, above.bottom)
        return places

    def _cell(self, x, y, i, j, value, width, height, digits, most, role, negative, size) -> Place:
        place = self._inside(Place(x + j * width, y + i * height, width, height), f"cell {i}, {j}")
        number = isinstance(value, (int, float))
        tint = 0.5 * min(1.0, abs(value) / most) if number else 0
        look = f"dr-cell dr-{self._role(negative if number and value < 0 else role)}"
        self._parts.append(
            f'<rect class="{look}" style="--tint:{tint:.3f}" x="{place.x:g}" y="{place.y:g}" width="{width:g}" '
            f'height="{height:g}"/>'
        )
        shown = "" if value is None else value if not number else "" if digits is None else f"{value:.{digits}f}"
        self._fits(str(shown), size, width)
        self._parts.append(self._lines(*place.centre, str(shown), size, "middle", "ink", bold=False))
        return place

    def _sector(self, x: float, y: float, radius: float, start: float, end: float, role: str) -> str:
        look = f"dr-sector dr-{self._role(role)}"
        if end - start >= 1:
            return f'<circle class="{look}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'
        (x0, y0), (x1, y1) = on_clock(x, y, radius, start), on_clock(x, y, radius, end)
        large = int(end - start > 0.5)
        path = f"M{x:g} {y:g}L{x0:.1f} {y0:.1f}A{radius:g} {radius:g} 0 {large} 1 {x1:.1f} {y1:.1f}Z"
        return f'<path class="{look}" d="{path}"/>'
