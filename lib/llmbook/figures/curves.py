"""Lines with bands, and losses, labelled where they end: the eye does not travel to a legend.

On a phone the labels move into a legend below (web/explorer.js); the numbers stay.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from llmbook.figures.theme import (
    COLOURS,
    DASHES,
    MARKERS,
    FigureError,
    as_array,
    describe,
    printable,
    rgba,
)

DIRECT_LABEL = "direct-label"  # the name by which web/explorer.js finds a label that needs the room beside
REFERENCES = ("dot", "dash", "dashdot", "longdash", "longdashdot", "solid")  # grey all: on a phone only these differ


def curves(
    series: Mapping[str, Any],
    *,
    alt: str,
    x: Any = None,
    title: str = "",
    caption: str = "",
    xlabel: str = "",
    ylabel: str = "",
    log_x: bool = False,
    log_y: bool = False,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    markers: bool | None = None,
    height: int = 360,
) -> go.Figure:
    """One line a name: y values (over ``x``, or 0, 1, 2 …), or ``(x, y)``, or ``(x, y, low, high)`` with a band.

    xlim, ylim: fix the axes (in a sweep: so that the frames compare). markers: by default drawn up to 16 points.
    Raises FigureError naming the series whose lengths differ.
    """
    if not series:
        raise FigureError("curves: no series; give {'name': y} or {'name': (x, y)}")
    fig = go.Figure()
    ends: list[tuple[str, float, float]] = []
    lowest, highest = np.inf, -np.inf
    for i, (name, values) in enumerate(series.items()):
        xs, ys, band = _series(name, values, x)
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[(i + i // len(COLOURS)) % len(DASHES)]
        if band is not None:
            outline = np.concatenate([band[1], band[0][::-1]])
            fill = {
                "fill": "toself",
                "fillcolor": rgba(colour, 0.22),
                "line": {"width": 0},
                "mode": "lines",
            }
            fig.add_scatter(
                x=np.concatenate([xs, xs[::-1]]),
                y=outline,
                hoverinfo="skip",
                showlegend=False,
                **fill,
            )
        dotted = len(xs) <= 16 if markers is None else markers
        fig.add_scatter(
            x=xs,
            y=ys,
            name=printable(name),
            mode="lines+markers" if dotted else "lines",
            line={"color": colour, "dash": dash, "width": 2.2},
            marker={"symbol": MARKERS[i % len(MARKERS)], "size": 7, "color": colour},
            showlegend=False,
            hovertemplate=f"{printable(name)}<br>%{{x:.4g}}: %{{y:.4g}}<extra></extra>",
        )
        fine = np.isfinite(ys) & np.isfinite(xs) & ((ys > 0) | (not log_y))
        if fine.any():
            seen = fine & (xs >= min(xlim)) & (xs <= max(xlim)) if xlim else fine
            last = np.flatnonzero(seen if seen.any() else fine)[-1]
            ends.append((name, float(xs[last]), float(ys[last])))
            lowest, highest = (
                min(lowest, float(ys[fine].min())),
                max(highest, float(ys[fine].max())),
            )
        else:  # keep one label a line, so that the frames of a sweep stay alike
            ends.append((name, float("nan"), float("nan")))
    fig.update_xaxes(title_text=xlabel, showgrid=False)
    fig.update_yaxes(title_text=ylabel)
    drawn = [trace for trace in fig.data if trace.hoverinfo != "skip"]
    if log_x:
        fig.update_xaxes(**_log_axis(np.concatenate([trace.x for trace in drawn]), at_points=True))
    if log_y:
        fig.update_yaxes(**_log_axis(np.concatenate([trace.y for trace in drawn]), at_points=False))
    for axis, limits, log in (("xaxis", xlim, log_x), ("yaxis", ylim, log_y)):
        if limits is not None:
            fig.layout[axis].range = [float(np.log10(v)) for v in limits] if log else list(limits)
    span = ylim or ((lowest, highest) if np.isfinite(lowest) else (0.0, 1.0))
    width = 16
    if len(series) > 1:
        width = 40 + 7 * max(len(name) for name in series)
        for annotation in _direct_labels(ends, span, log_y, height - 92):
            fig.add_annotation(**annotation)
    fig.update_layout(
        title_text=title,
        height=height,
        margin={"r": min(width, 190)},
        hovermode="closest",
    )
    return describe(fig, alt=alt, caption=caption, series=len(series) if len(series) > 1 else 0)


def loss_curve(
    history: Any,
    *,
    alt: str,
    title: str = "",
    caption: str = "",
    smooth: int = 1,
    references: Mapping[str, float] | None = None,
    log_x: bool = False,
) -> go.Figure:
    """Training and validation loss over optimiser steps, from a ``History`` or its dict.

    smooth: average the training loss over so many steps, the raw one behind it. references: named horizontal
    lines, such as {"ln V": 4.17}. Raises FigureError when there is nothing to draw.
    """
    get = history.get if isinstance(history, Mapping) else lambda key: getattr(history, key, None)
    steps, train = list(get("steps") or []), list(get("train_loss") or [])
    valid_steps, valid = list(get("valid_steps") or []), list(get("valid_loss") or [])
    if not train and not valid:
        raise FigureError("loss_curve: the history has no losses yet; run the trainer first")
    if len(steps) != len(train) or len(valid_steps) != len(valid):
        raise FigureError(
            f"loss_curve: {len(steps)} steps for {len(train)} training losses and "
            f"{len(valid_steps)} for {len(valid)} validation losses"
        )
    if log_x and valid_steps and valid_steps[0] == 0:  # the evaluation before any step has no place on this axis
        valid_steps, valid = valid_steps[1:], valid[1:]
    first = min([*steps, *valid_steps], default=0)
    last = max([*steps, *valid_steps], default=1)
    series: dict[str, Any] = {}
    if train:
        k = max(1, min(smooth, len(train)))
        window = np.convolve(train, np.ones(k), "valid") / k
        series["training"] = (steps[k - 1 :], window)
    if valid:
        series["validation"] = (valid_steps, valid)
    for name, value in (references or {}).items():
        series[name] = ([first, last], [value, value])
    fig = curves(
        series,
        alt=alt,
        title=title,
        caption=caption,
        xlabel="optimiser step",
        ylabel="loss, nats per token",
        log_x=log_x,
        markers=False,
    )
    if valid:
        fig.update_traces(mode="lines+markers", selector={"name": "validation"})
    for i, name in enumerate(map(printable, references or {})):
        dash = REFERENCES[i % len(REFERENCES)]
        fig.update_traces(line={"color": "#808080", "dash": dash, "width": 1.5}, selector={"name": name})
        for label in fig.select_annotations(lambda a, name=name: a.text.endswith(f" {name}")):
            label.text = f"<span style='color:#808080'>╍</span> {name}"
    if train and smooth > 1:
        raw = go.Scatter(
            x=steps,
            y=train,
            line={"color": rgba(COLOURS[0], 0.3), "width": 1},
            hoverinfo="skip",
        )
        fig.add_trace(raw.update(showlegend=False, mode="lines"))
        fig.data = (fig.data[-1], *fig.data[:-1])
    return fig


def _series(name: str, values: Any, shared: Any) -> tuple[np.ndarray, np.ndarray, tuple | None]:
    """(x, y, (low, high) or None) of one entry of ``curves``."""
    parts = values if isinstance(values, tuple) and len(values) in (2, 4) and np.ndim(values[0]) == 1 else None
    if parts is None:
        parts = (np.arange(len(values)) if shared is None else shared, values)
    arrays = [as_array(part, f"curves: {name!r}", 1) for part in parts]
    if len({len(a) for a in arrays}) > 1:
        raise FigureError(f"curves: {name!r} has lengths {[len(a) for a in arrays]}; x and y must agree")
    xs, *rest = (a.astype(float) if a.dtype.kind == "b" else a for a in arrays)
    return xs, rest[0], tuple(rest[1:]) or None


def _log_axis(values: np.ndarray, *, at_points: bool) -> dict:
    """A logarithmic axis labelled at the measured points where they are few, else at the powers of ten."""
    points = np.unique(values[np.isfinite(values) & (values > 0)])
    axis: dict[str, Any] = {"type": "log", "exponentformat": "power"}
    if at_points and 0 < len(points) <= 10:  # a format, not texts: ticks that an author moves have their own numbers
        return {**axis, "tickmode": "array", "tickvals": points, "tickformat": ".6~g"}
    wide = len(points) > 1 and points[-1] / points[0] > 30
    return {**axis, "dtick": 1 if wide else "D2"}


def _direct_labels(ends: list, span: tuple[float, float], log: bool, pixels: int) -> list[dict]:
    """Annotations at the right edge, pushed apart to 17 pixels so that none covers another.

    A line that ends above or below what is drawn has its label at that end of the edge, with an arrow to where it went:
    plotly would hide a label out there.
    """
    scale = np.log10 if log else (lambda v: v)
    low, high = scale(span[0]), scale(span[1])
    finite = {name: scale(y) for name, _, y in ends if np.isfinite(y)}
    drawn = {name: float(np.clip(y, *sorted((low, high)))) for name, y in finite.items()}
    at = {name: (y - low) / ((high - low) or 1) * pixels for name, y in drawn.items()}
    placed, floor = {}, -np.inf
    for name in sorted(at, key=at.__getitem__):
        placed[name] = floor = max(at[name], floor + 17)
    ceiling = max(float(pixels), 17.0 * (len(placed) - 1))
    for name in sorted(placed, key=placed.__getitem__, reverse=True):
        placed[name] = min(placed[name], ceiling)
        ceiling = placed[name] - 17
    labels = []
    for i, (name, _, _) in enumerate(ends):
        arrow = ""
        if name in placed and drawn[name] != finite[name]:
            arrow = "↑ " if (finite[name] > drawn[name]) == (high > low) else "↓ "
        shift = placed[name] - at[name] if name in placed else 0
        sign = f"<span style='color:{COLOURS[i % len(COLOURS)]}'>{'━' if i % 2 == 0 else '╍'}</span>"
        labels.append(
            {
                "name": DIRECT_LABEL,
                "text": f"{sign} {arrow}{printable(name)}",
                "x": 1,
                "xref": "paper",
                "xanchor": "left",
                "y": drawn[name] if name in placed else float(low),
                "yshift": round(float(shift), 1),
                "visible": name in placed,
                "showarrow": False,
                "align": "left",
            }
        )
    return labels
