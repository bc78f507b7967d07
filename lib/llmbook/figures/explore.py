"""``sweep(fn, grid)``: a figure, or a drawing, as a function of its parameters, with a control for each.

In a notebook: ipywidgets around an output that is redrawn by calling ``fn``. (Not plotly's FigureWidget: it needs
anywidget, and leaves megabytes of state in the saved notebook.) While the book is built: every frame is computed,
packed (``payload.py``) and drawn in the reader's browser without a kernel.
"""

import html
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from llmbook.figures import page, payload, theme
from llmbook.figures.drawing import Drawing
from llmbook.figures.drawing import page as drawn
from llmbook.figures.theme import FigureError


def sweep(
    fn: Callable[..., go.Figure | Drawing],
    grid: Mapping[str, Sequence],
    *,
    title: str,
    alt: str | Callable[..., str] | None = None,
    caption: str = "",
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Any] | None = None,
    max_frames: int = 400,
) -> "Sweep":
    """An explorer of ``fn(**parameters)``, a plotly figure or a drawing, over every combination of ``grid``'s values.

    Numbers (three or more) become a slider, anything else a menu. alt: a text, or a function of the parameters;
    None takes each frame's own. labels: what to call a parameter. start: values shown first, {name: value}; others
    start at their first. max_frames: the most combinations the static page may hold.
    Raises FigureError for an empty or too large grid, a start outside it, frames that cannot share a page, and a
    ``fn`` that raises or returns no figure, always naming the parameter values.
    """
    return Sweep(fn, grid, title, alt, caption, dict(labels or {}), dict(start or {}), max_frames)


class Sweep:
    """What ``sweep`` returns: displays itself, live or static. ``frame(**parameters)`` gives one figure.

    Raises FigureError where ``sweep`` does.
    """

    def __init__(self, fn, grid, title, alt, caption, labels, start, max_frames):
        self.fn, self.title, self.alt, self.caption = fn, title, alt, caption
        self.grid = _check_grid(grid, title)
        for what, given in (("labels", labels), ("start", start)):
            unknown = [name for name in given if name not in self.grid]
            if unknown:
                raise FigureError(f"sweep {title!r}: {what} names {unknown[0]!r}; the parameters are {list(self.grid)}")
        self.labels = {name: labels.get(name, name.replace("_", " ")) for name in self.grid}
        for name, value in start.items():
            if value not in self.grid[name]:
                raise FigureError(f"sweep {title!r}: start {name}={value!r} is not one of {self.grid[name]}")
        self.start = {name: start.get(name, values[0]) for name, values in self.grid.items()}
        self.n_frames = math.prod(map(len, self.grid.values()))
        if self.n_frames > max_frames:
            longest = max(self.grid, key=lambda name: len(self.grid[name]))
            most = max_frames * len(self.grid[longest]) // self.n_frames
            sizes = " × ".join(f"{name} {len(values)}" for name, values in self.grid.items())
            advice = f"at most {most}" if most >= 1 else "fewer"
            raise FigureError(
                f"sweep {title!r}: {sizes} = {self.n_frames} frames, more than {max_frames}; give {longest!r} "
                f"{advice} values, or raise max_frames"
            )
        self._drawn: dict[tuple, go.Figure | Drawing] = {}
        self._html: str | None = None
        if theme.is_static():
            self.to_html()  # here rather than on display, so that an error is the cell's own
        else:
            self.frame()

    def frame(self, **parameters: Any) -> go.Figure | Drawing:
        """The figure at these parameters (others at their start), computed once."""
        values = {**self.start, **parameters}
        key = tuple(_index(self.grid[name], value) for name, value in values.items())
        if key not in self._drawn:
            self._drawn[key] = self._compute(values)
        return self._drawn[key]

    def frames(self) -> list[tuple[dict[str, Any], go.Figure | Drawing]]:
        """Every combination with its figure, the last parameter varying fastest."""
        combinations = itertools.product(*self.grid.values())
        return [(v, self.frame(**v)) for v in (dict(zip(self.grid, c, strict=True)) for c in combinations)]

    def payload(self) -> dict:
        """All frames as one JSON-able object (see ``payload.pack``). Raises FigureError if they cannot share a page."""
        frames = self.frames()
        names = [_at(values) for values, _ in frames]
        kinds = [isinstance(fig, Drawing) for _, fig in frames]
        if all(kinds):
            return drawn.frames([fig for _, fig in frames])
        if any(kinds):
            one, other = names[kinds.index(True)], names[kinds.index(False)]
            raise FigureError(f"sweep {self.title!r}: a drawing at {one}, a plotly figure at {other}; return one kind")
        try:
            return payload.pack([payload.plain(fig) for _, fig in frames], names)
        except FigureError as error:
            raise FigureError(f"sweep {self.title!r}: {error}") from None

    def to_html(self) -> str:
        """The explorer as markup for the site."""
        if self._html is None:
            packed = self.payload()
            if isinstance(first := self.frame(), Drawing):
                controls = page.controls_html(self.title, self.dials())
                self._html = drawn.figure(
                    first, title=self.title, controls=controls, payload={**packed, "dials": self.dials()}
                )
                return self._html
            layout = packed["fig"]["layout"]
            layout["meta"] = dict(first.layout.meta)  # the page first says what it first shows
            if first.layout.title.text:
                layout["title"] = {**layout["title"], "text": first.layout.title.text}
            self._html = page.figure_html(packed, title=self.title, dials=self.dials())
        return self._html

    def dials(self) -> list[dict]:
        """One control a parameter: its label, the texts of its values, where it starts."""
        result = []
        for name, values in self.grid.items():
            numeric = all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in values)
            result.append(
                {
                    "name": name,
                    "label": self.labels[name],
                    "options": _texts(values),
                    "at": _index(values, self.start[name]),
                    "kind": "range" if numeric and len(values) > 2 else "select",
                }
            )
        return result

    def widget(self):
        """The live form: ipywidgets controls above an output that is redrawn."""
        import ipywidgets as widgets
        from IPython.display import display

        controls = {}
        for dial, values in zip(self.dials(), self.grid.values(), strict=True):
            kind = widgets.SelectionSlider if dial["kind"] == "range" else widgets.Dropdown
            controls[dial["name"]] = kind(
                options=list(zip(dial["options"], range(len(values)), strict=True)),
                value=dial["at"],
                description=dial["label"],
                style={"description_width": "initial"},
                layout=widgets.Layout(width="auto", max_width="32em"),
            )
        first = self.frame()
        height = first.height if isinstance(first, Drawing) else first.layout.height or 380
        output = widgets.Output(layout=widgets.Layout(min_height=f"{height + 12}px"))
        words = widgets.HTML()

        def redraw(_=None):
            values = {name: self.grid[name][control.value] for name, control in controls.items()}
            with output:  # an error in fn shows here, in place of the figure
                output.clear_output(wait=True)
                fig = self.frame(**values)
                display(fig)
                if not isinstance(fig, Drawing):  # which says it itself
                    words.value = _words(self.caption or fig.layout.meta.get("caption", ""), fig.layout.meta["alt"])

        for control in controls.values():
            control.observe(redraw, "value")
        redraw()
        heading = widgets.HTML(f"<strong>{html.escape(self.title)}</strong>")
        return widgets.VBox([heading, *controls.values(), output, words])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if theme.is_static():
            display({"text/html": self.to_html(), "text/plain": repr(self)}, raw=True)
        else:
            display(self.widget())

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}[{len(values)}]" for name, values in self.grid.items())
        return f"<sweep {self.title!r}: {self.n_frames} frames over {sizes}>"

    def _compute(self, values: dict[str, Any]) -> go.Figure | Drawing:
        try:
            fig = self.fn(**values)
        except Exception as error:
            raise FigureError(
                f"sweep {self.title!r}: the function failed at {_at(values)}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(fig, (go.Figure, Drawing)):
            raise FigureError(
                f"sweep {self.title!r}: the function returned {type(fig).__name__} at {_at(values)}; "
                "return a plotly figure or a drawing"
            )
        alt = self.alt(**values) if callable(self.alt) else self.alt
        if isinstance(fig, Drawing):
            fig.alt, fig.caption = alt or fig.alt, self.caption or fig.caption
            return fig
        if alt is not None:
            theme.describe(fig, alt=alt, **_keep(fig))
        if self.caption:
            fig.update_layout(meta={**(fig.layout.meta or {}), "caption": self.caption})
        try:
            theme.alt_text(fig)
        except FigureError as error:
            raise FigureError(f"sweep {self.title!r}, at {_at(values)}: {error}") from None
        return fig


def _check_grid(grid: Mapping[str, Sequence], title: str) -> dict[str, list]:
    if not grid:
        raise FigureError(f"sweep {title!r}: the grid is empty; give at least one parameter, {{'name': [values]}}")
    checked = {}
    for name, values in grid.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise FigureError(f"sweep {title!r}: the values of {name!r} are {values!r}; give a list of values")
        values = [v.item() if isinstance(v, np.generic) else v for v in values]
        if not values:
            raise FigureError(f"sweep {title!r}: {name!r} has no values")
        for i, value in enumerate(values):
            if value in values[:i]:
                raise FigureError(f"sweep {title!r}: {name!r} has the value {value!r} twice")
        checked[name] = values
    return checked


def _index(values: list, value: Any) -> int:
    if value not in values:
        raise FigureError(f"{value!r} is not one of {values}")
    return values.index(value)


def _texts(values: list) -> list[str]:
    short = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
    return short if len(set(short)) == len(short) else [repr(v) for v in values]


def _at(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _keep(fig: go.Figure) -> dict:
    meta = fig.layout.meta or {}
    return {
        "caption": meta.get("caption", ""),
        "narrow_height": meta.get("narrow_height"),
    }


def _words(caption: str, alt: str) -> str:
    caption, alt = html.escape(caption), html.escape(alt)
    return f"<p>{caption}</p><details><summary>Description</summary>{alt}</details>"
