"""Heat maps: any matrix, the attention of one head, and all heads side by side.

Rows read downwards, as the matrix is written: query 0 is at the top. A token that occurs twice keeps its two
rows, and a masked cell is grey and empty, not the colour of zero.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmbook.figures.digits import digit_layers
from llmbook.figures.theme import (
    DIVERGING,
    MASKED,
    SEQUENTIAL,
    FigureError,
    as_array,
    describe,
    index_axis,
)

_SCALES = {"sequential": SEQUENTIAL, "diverging": DIVERGING}


def heatmap(
    z: Any,
    *,
    alt: str,
    x: Sequence | None = None,
    y: Sequence | None = None,
    title: str = "",
    caption: str = "",
    xlabel: str = "",
    ylabel: str = "",
    zlabel: str = "",
    scale: str = "sequential",
    zmin: float | None = None,
    zmax: float | None = None,
    digits: int | None = None,
    height: int | None = None,
) -> go.Figure:
    """A matrix ``z`` [rows, columns] as colours; NaN cells stay empty.

    x, y: one label (text) or coordinate (number) for each column and row; texts may repeat. scale: "sequential",
    or "diverging", which is centred on zero. zmin, zmax: the ends of the scale (set them where several figures, or
    the frames of a sweep, are to be compared). digits: write each value into its cell with so many decimals.
    Raises FigureError when labels do not fit the matrix.
    """
    z = as_array(z, "heatmap: z", 2)
    rows, columns = z.shape
    if scale not in _SCALES:
        raise FigureError(f"heatmap: scale={scale!r}; expected one of {sorted(_SCALES)}")
    if scale == "diverging":
        reach = _reach(z) if zmin is None and zmax is None else max(abs(zmin or 0), abs(zmax or 0))
        zmin, zmax = -reach, reach
    colour = {
        "title": {"text": zlabel, "side": "right"},
        "thickness": 10,
        "len": 0.9,
        "outlinewidth": 0,
    }
    trace = go.Heatmap(
        z=z.astype(int) if z.dtype == bool else z,
        colorscale=list(_SCALES[scale]),
        zmin=zmin,
        zmax=zmax,
        colorbar=colour,
        hovertemplate=f"{ylabel or 'row'} %{{y}}<br>{xlabel or 'column'} %{{x}}<br>"
        f"{zlabel or 'value'} %{{z:.4g}}<extra></extra>",
        xgap=1 if columns <= 32 else 0,
        ygap=1 if rows <= 32 else 0,
    )
    fig = go.Figure(trace)
    if digits is not None:
        low = np.nanmin(z) if zmin is None else zmin
        high = np.nanmax(z) if zmax is None else zmax
        fig.add_traces(digit_layers(z.astype(float), _SCALES[scale], float(low), float(high), digits))
    fig.update_xaxes(**_labels(x, columns, "x"), title_text=xlabel)
    fig.update_yaxes(**_labels(y, rows, "y"), title_text=ylabel, autorange="reversed")
    if isinstance(fig.layout.xaxis.tickvals, tuple):
        fig.update_xaxes(autotickangles=[0, -45, -90])
    for axis, coordinates in (("x", x), ("y", y)):
        if coordinates is not None and getattr(fig.layout, f"{axis}axis").tickvals is None:
            fig.update_traces({axis: as_array(coordinates, f"heatmap: {axis}", 1)})
    fig.update_layout(title_text=title, height=height or int(np.clip(120 + 26 * rows, 240, 460)))
    if columns <= 8:
        fig.update_layout(width=170 + 72 * columns)
    return describe(fig, alt=alt, caption=caption)


def attention_map(
    weights: Any,
    tokens: Sequence[str],
    *,
    alt: str,
    key_tokens: Sequence[str] | None = None,
    mask: Any = None,
    title: str = "",
    caption: str = "",
    zmax: float | None = 1.0,
    digits: int | None = None,
    zlabel: str = "weight",
) -> go.Figure:
    """The attention of one head: ``weights`` [T, S], row = the token that reads, column = the token it reads.

    tokens: T texts. key_tokens: S texts where they differ (cross-attention). mask: boolean [T, S], True = may
    attend; the other cells are drawn grey. zmax: the weight at the end of the scale; None: the largest here.
    Raises FigureError when weights, tokens and mask do not fit.
    """
    w = as_array(weights, "attention_map: weights", 2).astype(float)
    keys = list(tokens if key_tokens is None else key_tokens)
    _fits("attention_map", w.shape, len(tokens), len(keys))
    if mask is not None:
        allowed = as_array(mask, "attention_map: mask", 2).astype(bool)
        if allowed.shape != w.shape:
            raise FigureError(f"attention_map: mask has shape {allowed.shape}, weights {w.shape}")
        w = np.where(allowed, w, np.nan)
    fig = heatmap(
        w,
        alt=alt,
        x=keys,
        y=list(tokens),
        title=title,
        caption=caption,
        xlabel="reads",
        ylabel="token",
        zlabel=zlabel,
        zmin=0.0,
        zmax=zmax if zmax is not None else float(np.nanmax(w, initial=1e-12)),
        digits=digits,
    )
    fig.data[0].hovertemplate = "<b>%{y}</b> reads <b>%{x}</b>: %{z:.3f}<extra></extra>"
    if mask is not None:
        fig.add_trace(_masked(allowed))
        fig.data = (fig.data[-1], *fig.data[:-1])
    size = float(np.clip(430 / max(w.shape), 9, 44))
    longest = max(len(str(t)) for t in keys)
    bottom = 60 + (0 if longest * 8 < size else min(7 * longest, 90))
    left = 50 + 8 * min(max(len(str(t)) for t in tokens), 14)
    height, width = int(size * w.shape[0]) + bottom + 44, int(size * w.shape[1]) + left + 90
    fig.update_layout(height=max(height, 220), width=max(width, 300))
    return describe(fig, alt=alt, caption=caption, narrow_height=max(220, min(height, 250 + bottom)))


def attention_grid(
    weights: Any,
    tokens: Sequence[str],
    *,
    alt: str,
    title: str = "",
    caption: str = "",
    names: Sequence[str] | None = None,
    columns: int = 4,
    zmax: float | None = 1.0,
) -> go.Figure:
    """Every head as a small map: ``weights`` [H, T, S], or [L, H, T, S] with one row of maps a layer.

    tokens: T texts, shown on hover only. names: a title a map. columns: maps a row (three dimensions only).
    Raises FigureError when weights and tokens do not fit.
    """
    w = as_array(weights, "attention_grid: weights", (3, 4)).astype(float)
    _fits("attention_grid", w.shape[-2:], len(tokens), len(tokens))
    if w.ndim == 4:
        n_rows, n_columns = w.shape[:2]
        default = [f"layer {i}, head {j}" for i in range(n_rows) for j in range(n_columns)]
        default = default if n_columns <= 4 else [f"{i}·{j}" for i in range(n_rows) for j in range(n_columns)]
        w = w.reshape(-1, *w.shape[2:])
    else:
        n_columns = min(columns, len(w))
        n_rows = -(-len(w) // n_columns)
        default = [f"head {i}" for i in range(len(w))]
    names = list(names) if names is not None else default
    if len(names) != len(w):
        raise FigureError(f"attention_grid: {len(names)} names for {len(w)} maps")
    fig = make_subplots(
        n_rows,
        n_columns,
        subplot_titles=names,
        horizontal_spacing=0.12 / n_columns,
        vertical_spacing=0.2 / n_rows,
    )
    for i, head in enumerate(w):
        hover = f"{names[i]}<br><b>%{{y}}</b> reads <b>%{{x}}</b>: %{{z:.3f}}<extra></extra>"
        trace = go.Heatmap(z=head, coloraxis="coloraxis", hovertemplate=hover)
        fig.add_trace(trace, i // n_columns + 1, i % n_columns + 1)
    fig.update_xaxes(**index_axis(list(tokens)), showticklabels=False)
    fig.update_yaxes(**index_axis(list(tokens)), showticklabels=False, autorange="reversed")
    fig.update_annotations(font_size=12, yshift=-2)
    fig.update_layout(
        title_text=title,
        height=80 + n_rows * int(np.clip(620 / n_columns, 90, 190)),
        coloraxis={
            "colorscale": list(SEQUENTIAL),
            "cmin": 0,
            "cmax": zmax if zmax is not None else float(np.nanmax(w)),
            "colorbar": {
                "thickness": 10,
                "outlinewidth": 0,
                "title": {"text": "weight", "side": "right"},
            },
        },
    )
    return describe(
        fig,
        alt=alt,
        caption=caption,
        narrow_height=60 + n_rows * max(70, 300 // n_columns),
    )


def _fits(what: str, shape: tuple[int, ...], queries: int, keys: int) -> None:
    if tuple(shape) != (queries, keys):
        raise FigureError(
            f"{what}: weights [T, S] are {list(shape)}, but there are {queries} tokens that read and {keys} read"
        )


def _labels(labels: Sequence | None, n: int, which: str) -> dict:
    if labels is None:
        return {"showgrid": False, "zeroline": False}
    if len(labels) != n:
        raise FigureError(f"heatmap: {len(labels)} labels in {which} for {n} {'columns' if which == 'x' else 'rows'}")
    if any(isinstance(label, str) for label in labels):
        return index_axis(list(labels))
    return {"showgrid": False, "zeroline": False}


def _masked(allowed: np.ndarray) -> go.Heatmap:
    """A flat grey layer under the weights; drawn even where nothing is masked, so that sweeps keep their traces."""
    return go.Heatmap(
        z=np.where(allowed, np.nan, 0.0),
        colorscale=[MASKED, MASKED],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1 if allowed.shape[1] <= 32 else 0,
        ygap=1 if allowed.shape[0] <= 32 else 0,
        hovertemplate="<b>%{y}</b> may not read <b>%{x}</b> (masked)<extra></extra>",
    )


def _reach(z: np.ndarray) -> float:
    finite = np.abs(z[np.isfinite(z)]) if z.dtype.kind == "f" else np.abs(z.astype(float))
    return float(finite.max(initial=0.0)) or 1.0
