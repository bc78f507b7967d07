"""``Drawing``: an area of width × height units on which parts are put, from the top left; one unit is a pixel.

drawing = Drawing(360, 120, alt="A query reads two values, the second with weight 0.8.")
query = drawing.box(10, 40, 80, 40, "q_{3}", role="blue")
drawing.arrow(query.right, (340, 60), weight=0.8, text=f"{0.8:.2f}")
"""

import hashlib
import html
from typing import Any

from llmbook.figures.drawing import words
from llmbook.figures.drawing.parts import Panel, Place, Point, curve, head
from llmbook.figures.theme import FigureError

ROLES = ("ink", "soft", "blue", "red", "green", "pink", "sky", "orange")  # ink: the text's colour; soft: a paler one
PHONE, LEAST = 328, 9.4  # CSS pixels that a phone leaves to a figure; the smallest letter there
WIDEST = 8.0  # an arrow of weight 1


class Area:
    """Where parts are put and checked, with those that all drawings are made of: boxes, text, arrows.

    Raises FigureError for a drawing without alt text, and for a part that lies outside or cannot be read.
    """

    def __init__(
        self, width: float, height: float, *, alt: str, title: str = "", caption: str = "", scroll: bool = False
    ):
        if not alt.strip():
            raise FigureError(f"the drawing {title or '(untitled)'!r} has no alt text: say what it shows, alt='…'")
        self.width, self.height = width, height
        self.alt, self.title, self.caption, self.scroll = alt, title, caption, scroll
        self.panels: list[Panel] = []
        self._parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        *,
        role: str = "ink",
        size: float = 14,
        round: float = 6,
        dashed: bool = False,
        filled: bool = True,
        panel: Panel | None = None,
    ) -> Place:
        """A rectangle with text in its middle. panel: what it says on a click, with the keyboard, or in a list."""
        place = self._inside(Place(x, y, width, height), text or "a box")
        self._fits(text, size, width - 4)
        look = f"dr-box dr-{self._role(role)}{' dr-dashed' if dashed else ''}{'' if filled else ' dr-open'}"
        shape = f'<rect class="{look}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}"/>'
        inside = shape + self._lines(*place.centre, text, size, "middle", "ink", bold=False)
        self._parts.append(self._linked(inside, panel) if panel else inside)
        return place

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        role: str = "ink",
        size: float = 14,
        anchor: str = "middle",
        bold: bool = False,
    ) -> Place:
        """Text whose middle line lies at ``y``; anchor: which end lies at ``x``, "start", "middle" or "end".

        role: "ink" or "soft", which can be read on every background; any other raises FigureError.
        """
        if role not in ROLES[:2]:
            raise FigureError(f"text in {role!r} cannot be read on every background; use 'ink' or 'soft'")
        wide, lines = words.width(text, size), text.count("\n") + 1
        left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        place = self._inside(Place(left, y - lines * size * 0.6, wide, lines * size * 1.2), text)
        self._parts.append(self._lines(x, y, text, size, anchor, role, bold=bold))
        return place

    def arrow(
        self,
        start: Point,
        end: Point,
        *,
        weight: float | None = None,
        bend: float = 0.0,
        text: str = "",
        role: str = "ink",
        size: float = 13,
        dashed: bool = False,
        headed: bool = True,
    ) -> None:
        """An arrow, or a line where ``headed`` is False, with text at its middle.

        weight: from 0 to 1, drawn as width; FigureError outside of it.
        bend: how far the middle lies to the left of the way, as a share of it.
        """
        if weight is not None and not 0 <= weight <= 1 + 1e-6:
            raise FigureError(f"an arrow's weight is {weight:g}; it lies between 0 and 1")
        stroke = 1.5 if weight is None else max(0.5, WIDEST * weight)
        path, tip, angle, middle = curve(start, end, bend)
        look = f"dr-{self._role(role)}{' dr-dashed' if dashed else ''}"
        triangle = ""
        if headed:
            shape, tip = head(end, angle, 6 + 1.6 * stroke)
            triangle = f'<path class="dr-head {look}" d="{shape}"/>'
        line = f'<path class="dr-line {look}" stroke-width="{stroke:.2f}" d="{path}{tip[0]:.1f} {tip[1]:.1f}"/>'
        self._parts.append(line + triangle)
        if text:
            self._parts.append(self._lines(*middle, text, size, "middle", "ink", bold=False))

    def svg(self) -> str:
        """The drawing itself, without its figure."""
        label = "" if self.panels else ' aria-hidden="true"'
        return (
            f'<svg class="llm-svg" viewBox="0 0 {self.width:g} {self.height:g}" xmlns="http://www.w3.org/2000/svg"{label}>'
            + "".join(self._parts)
            + "</svg>"
        )

    def panel_id(self, number: int) -> str:
        """Names the panel of the drawing's box ``number`` in a page."""
        told = repr((self.title, self.alt, self.panels[number]))
        return f"panel-{hashlib.sha256(told.encode()).hexdigest()[:10]}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        from llmbook.figures.drawing.page import figure

        return {"text/html": figure(self), "text/plain": f"[figure: {self.alt}]"}

    def _role(self, role: str) -> str:
        if role not in ROLES:
            raise FigureError(f"role={role!r}; the colours of a drawing are {', '.join(ROLES)}")
        return role

    def _inside(self, place: Place, what: str) -> Place:
        right, bottom = place.x + place.width, place.y + place.height
        if place.x < -1 or place.y < -1 or right > self.width + 1 or bottom > self.height + 1:
            raise FigureError(
                f"{what!r} reaches from ({place.x:.0f}, {place.y:.0f}) to ({right:.0f}, {bottom:.0f}), outside the "
                f"drawing of {self.width:g} × {self.height:g}"
            )
        return place

    def _fits(self, text: str, size: float, room: float) -> None:
        if text and (wide := words.width(text, size)) > room:
            raise FigureError(f"{text!r} is about {wide:.0f} wide and has {room:.0f}: break the line, or widen its box")

    def _lines(self, x: float, y: float, text: str, size: float, anchor: str, role: str, *, bold: bool) -> str:
        if not text:
            return ""
        scale = 1 if self.scroll else min(1, PHONE / self.width)
        if size * scale < LEAST:
            raise FigureError(
                f"{text!r} would be {size * scale:.1f} pixels high on a phone: make the drawing at most "
                f"{PHONE * size / LEAST:.0f} wide, the letters larger, or pass scroll=True"
            )
        lines = text.split("\n")
        first = y - (len(lines) - 1) * size * 0.6
        look = f"dr-text dr-{role}{' dr-bold' if bold else ''}"
        return "".join(
            f'<text class="{look}" x="{x:.1f}" y="{first + i * size * 1.2 + size * 0.35:.1f}" '
            f'font-size="{size:g}" text-anchor="{anchor}">{words.markup(line, size)}</text>'
            for i, line in enumerate(lines)
        )

    def _linked(self, inside: str, panel: Panel) -> str:
        self.panels.append(panel)
        name = self.panel_id(len(self.panels) - 1)
        return f'<a class="dr-part" href="#{name}" aria-label="{html.escape(panel.title)}">{inside}</a>'
