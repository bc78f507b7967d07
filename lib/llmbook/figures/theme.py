"""One look for every figure, and the rule that a figure carries its description.

The qualitative colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/) without black and yellow,
which vanish on a dark or a light page; lines differ by dash as well, so that no figure needs colour to be read.
Magnitudes use viridis (https://bids.github.io/colormap/), signed values a scale whose middle is pale: both read
on light and on dark pages and mean the same on each, so a caption may say "bright".
"""

import re
import unicodedata
from typing import Any

import numpy as np
import plotly.graph_objects as go

from llmbook.notebook import is_static

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
SEQUENTIAL = [
    "#440154",
    "#472d7b",
    "#3b528b",
    "#2c728e",
    "#21918c",
    "#28ae80",
    "#5ec962",
    "#addc30",
    "#fde725",
]  # viridis, nine steps
DIVERGING = [
    "#053f73",
    "#2273ad",
    "#7fb4d6",
    "#efece6",
    "#eba46f",
    "#c75a1a",
    "#7a2900",
]  # blue, pale, vermillion
MASKED = "rgba(128,128,128,0.22)"  # one grey that is visible on a white and on a dark page
FONT = {
    "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "size": 13,
}


class FigureError(ValueError):
    """A figure cannot be drawn as asked; the message says which value is wrong and what to do."""


def template() -> go.layout.Template:
    """The theme for a running notebook, always on white. (The site's own follows the page: web/explorer.js.)"""
    axis = {
        "gridcolor": "#e5e7eb",
        "zerolinecolor": "#cbd0d6",
        "linecolor": "#9ca3af",
        "ticks": "",
        "automargin": True,
        "title": {"standoff": 8},
    }
    return go.layout.Template(
        layout={
            "font": {**FONT, "color": "#222832"},
            "title": {"font": {"size": 15}, "x": 0, "xref": "paper", "xanchor": "left"},
            "colorway": list(COLOURS),
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 56, "r": 16, "t": 44, "b": 48},
            "hoverlabel": {"font": {"size": 13}},
        }
    )


def describe(
    fig: go.Figure,
    *,
    alt: str,
    caption: str = "",
    narrow_height: int | None = None,
    series: int = 0,
) -> go.Figure:
    """Give a figure its alt text, caption and theme; returns the same figure.

    alt: what the figure shows, for a reader who cannot see it. caption: one or two sentences under it, for all.
    narrow_height: pixels on a phone (default: its height, at most 380). series: lines whose labels become a
    legend under the figure when there is no room for them beside it.
    Raises FigureError when alt is empty.
    """
    before = fig.layout.meta or {}
    height = fig.layout.height or 380
    narrow = narrow_height or min(height, 380) + 22 * ((series + 1) // 2)
    fig.layout.meta = {**before, "alt": alt, "caption": caption, "narrow_height": narrow}
    fig.layout.height = height
    if not is_static() and "alt" not in before:  # the page dresses figures itself, and plotly is slow to take this
        fig.layout.template = template()
    alt_text(fig)
    return fig


def alt_text(fig: Any) -> str:
    """The alt text of a figure (or of its dict). Raises FigureError, with the remedy, when it has none."""
    layout = fig.layout.to_plotly_json() if isinstance(fig, go.Figure) else fig["layout"]
    meta = layout.get("meta")
    alt = meta.get("alt") if isinstance(meta, dict) else None
    if not isinstance(alt, str) or not alt.strip():
        title = (layout.get("title") or {}).get("text")
        raise FigureError(
            f"the figure {title or '(untitled)'!r} has no alt text: pass alt='…' to the builder, or "
            "llmbook.figures.describe(fig, alt='…'), saying what a reader who cannot see it should know"
        )
    return alt


def show(fig: Any, *, alt: str | None = None, caption: str | None = None) -> None:
    """Display a figure, with its caption under it in a notebook too; or a sweep or a prediction, which has its own.

    Raises FigureError when a figure has no alt text.
    """
    from IPython.display import Markdown, display

    if not isinstance(fig, go.Figure):
        display(fig)
        return
    if alt is not None or caption is not None:
        old = fig.layout.meta or {}
        alt = alt if alt is not None else old.get("alt", "")
        describe(
            fig,
            alt=alt,
            caption=caption if caption is not None else old.get("caption", ""),
        )
    alt_text(fig)
    display(fig)
    if not is_static() and fig.layout.meta.get("caption"):
        display(Markdown(f"*{fig.layout.meta['caption']}*"))


def as_array(values: Any, what: str, ndim: int | tuple[int, ...]) -> np.ndarray:
    """A numpy array of floats (or integers) from a list, an array or a tensor, of the number of dimensions asked.

    Raises FigureError, calling the values ``what``, when they are ragged, empty, no numbers or of other dimensions.
    """
    if hasattr(values, "detach"):  # a torch tensor, on any device, of any float type
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        raise FigureError(f"{what}: rows of different length; give a rectangular array") from None
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if array.ndim not in allowed or array.size == 0:
        raise FigureError(
            f"{what} has shape {array.shape}; expected {' or '.join(map(str, allowed))} dimensions, none of them empty"
        )
    if array.dtype.kind not in "fiub":
        raise FigureError(f"{what} holds {array.dtype}; expected numbers")
    return array


def printable(token: str) -> str:
    """A token as a label: white space made visible, HTML taken literally."""
    return _literal(_visible(token)) or "∅"


def folded(label: str, most: int = 18) -> str:
    """A label in lines of at most ``most`` characters (wide ones, as Chinese has, count two), broken between words.

    A word longer than a line is broken as well: 18 leave a phone more than a third of its width for the bars.
    """
    lines = [""]
    for word in re.split("(?<= )(?=[^ ])", _visible(label)):
        if lines[-1] and _width((lines[-1] + word).rstrip()) > most:
            lines.append("")
        for character in word:
            if character != " " and _width(lines[-1] + character) > most:
                lines.append("")
            lines[-1] += character
    return "<br>".join(_literal(line.rstrip() if len(lines) > 1 else line) for line in lines) or "∅"


def _visible(token: str) -> str:
    text = str(token).replace("\n", "⏎").replace("\t", "⇥")
    return "␣" * (len(text) - len(text.lstrip(" "))) + text.lstrip(" ")


def _literal(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def index_axis(labels: list[str], **axis: Any) -> dict:
    """An axis over positions 0…n−1 that shows ``labels``: equal labels stay apart, which a category axis merges."""
    n = len(labels)
    return {
        "tickmode": "array",
        "tickvals": list(range(n)),
        "ticktext": [printable(label) for label in labels],
        "tickfont": {"size": 12 if n <= 24 else 10},
        "showgrid": False,
        "zeroline": False,
        **axis,
    }


def rgba(colour: str, alpha: float) -> str:
    """``#rrggbb`` with an opacity."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"
