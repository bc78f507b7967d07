"""Bars: one number a name, lying down, so that a name has room beside its bar."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from llmbook.figures.theme import COLOURS, FigureError, describe, folded, index_axis

LINE = 16  # pixels of a line of a name


def bars(
    values: Mapping[str, Any] | Sequence[tuple[str, Any]],
    *,
    alt: str,
    title: str = "",
    caption: str = "",
    xlabel: str = "",
    xlim: tuple[float, float] | None = None,
    digits: int = 3,
    height: int | None = None,
) -> go.Figure:
    """Horizontal bars, one a name, the value written at its end; a value may be ``(value, low, high)``, or NaN: no bar.

    values: a mapping, or pairs where names repeat (tokens do). Long names are broken into lines, and the figure
    becomes higher where they need it. Raises FigureError when there is no value.
    """
    pairs = list(values.items()) if isinstance(values, Mapping) else list(values)
    if not pairs:
        raise FigureError("bars: no values; give {'name': value}")
    names = [str(name) for name, _ in pairs]
    try:
        rows = np.array([[float(v)] * 3 if np.ndim(v) == 0 else [float(u) for u in v] for _, v in pairs])
        middle, low, high = rows.T
    except (TypeError, ValueError):
        raise FigureError(f"bars: each value is a number or (value, low, high); got {dict(pairs)!r:.200}") from None
    error = {
        "type": "data",
        "symmetric": False,
        "array": high - middle,
        "arrayminus": middle - low,
    }
    spread = bool(np.any((high != low) & ~np.isnan(middle)))
    fig = go.Figure(
        go.Bar(
            x=middle,
            y=np.arange(len(pairs)),
            orientation="h",
            marker={"color": COLOURS[0]},
            text=["" if np.isnan(v) else f"{v:.{digits}f}" for v in middle] if not spread else None,
            textposition="outside",
            cliponaxis=False,
            error_x={**error, "color": "#808080", "thickness": 1.5} if spread else None,
            hovertemplate=f"%{{y}}: %{{x:.{digits + 1}f}}<extra></extra>",
            showlegend=False,
        )
    )
    fig.update_xaxes(title_text=xlabel, range=list(xlim) if xlim else None, rangemode="tozero")
    height = name_axis(fig, names, height or 90 + 28 * len(names), beside=90)
    fig.update_layout(title_text=title, height=height, bargap=0.3, margin={"r": 52})
    return describe(fig, alt=alt, caption=caption, narrow_height=height)


def name_axis(fig: go.Figure, names: Sequence[str], height: int, *, beside: int) -> int:
    """Write ``names`` down the y axis, the first on top, long ones in several lines; returns the height this needs.

    height: what the figure would have if no name were broken; beside: the part of it that no bar can use.
    """
    texts = [folded(name) for name in names]
    fig.update_yaxes(**index_axis(list(names)), range=[len(names) - 0.5, -0.5])
    fig.update_yaxes(ticktext=texts)
    most = max(text.count("<br>") + 1 for text in texts)
    return height if most == 1 else max(height, beside + (LINE * most + 4) * len(names))
