"""Bars made of parts: what a whole consists of, in numbers or in shares, one colour a part."""

from collections.abc import Mapping

import plotly.graph_objects as go

from llmbook.figures.bars import name_axis
from llmbook.figures.theme import COLOURS, FigureError, describe, printable

PATTERNS = ("", "/", "", "\\", "", "x")  # as dashes do for lines: a part is known without its colour


def stacked_bars(
    rows: Mapping[str, Mapping[str, float]],
    *,
    alt: str,
    title: str = "",
    caption: str = "",
    xlabel: str = "",
    shares: bool = False,
    xlim: tuple[float, float] | None = None,
    height: int | None = None,
) -> go.Figure:
    """Horizontal bars, one a name, each the sum of its named parts; parts in the order of their first appearance.

    rows: {name: {part: value}}; a part that a row does not have counts 0. shares: divide every bar by its sum.
    Raises FigureError when there is no row, a value is negative, or a share of nothing is asked for.
    """
    if not rows:
        raise FigureError("stacked_bars: no rows; give {'name': {'part': value}}")
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    if len(parts) > len(COLOURS):
        raise FigureError(f"stacked_bars: {len(parts)} parts, but only {len(COLOURS)} colours that all can tell apart")
    for name, row in rows.items():
        if any(value < 0 for value in row.values()) or (shares and sum(row.values()) == 0):
            raise FigureError(f"stacked_bars: {name!r} is {dict(row)!r:.200}; parts of a whole are not negative")
    whole = [sum(row.values()) if shares else 1 for row in rows.values()]
    fig = go.Figure()
    for i, part in enumerate(parts):
        fig.add_bar(
            x=[row.get(part, 0) / total for row, total in zip(rows.values(), whole, strict=True)],
            y=list(range(len(rows))),
            name=printable(part),
            orientation="h",
            marker={
                "color": COLOURS[i],
                "pattern": {"shape": PATTERNS[i], "size": 7, "solidity": 0.2, "fillmode": "overlay"},
            },
            hovertemplate=f"{printable(part)}: %{{x:.3s}}<extra></extra>"
            if not shares
            else f"{printable(part)}: %{{x:.1%}}<extra></extra>",
        )
    fig.update_xaxes(
        title_text=xlabel, rangemode="tozero", **({"tickformat": ".0%", "range": [0, 1]} if shares else {})
    )
    if xlim is not None:
        fig.update_xaxes(range=list(xlim))
    height = name_axis(fig, [str(name) for name in rows], height or 160 + 30 * len(rows), beside=160)
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": -60 / (height - 130), "yanchor": "top"}
    fig.update_layout(title_text=title, barmode="stack", height=height, bargap=0.3, showlegend=True)
    fig.update_layout(legend={**legend, "traceorder": "normal"})
    return describe(fig, alt=alt, caption=caption, narrow_height=height + 18 * len(parts))
