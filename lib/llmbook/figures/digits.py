"""Numbers in the cells of a heat map, black on light colours and white on dark ones.

Plotly's own choice, dark grey or white by brightness, leaves numbers on green at 3.5 : 1. The choice by luminance
keeps 4.5 : 1 (WCAG 2, AA) on any colour, on every page: where black and white are equally good, both have 4.58.
"""

import numpy as np
import plotly.graph_objects as go

EVEN = 0.179  # the luminance on which black and white stand out equally: the root of 1.05 · 0.05, less 0.05
CLEAR = "rgba(0,0,0,0)"


def digit_layers(z: np.ndarray, scale: list[str], low: float, high: float, digits: int) -> list[go.Heatmap]:
    """Two clear layers that write ``z`` [rows, columns] over its cells: white, then black; empty where z is NaN.

    scale: the colours of the cells in equal steps from ``low`` to ``high``. Both layers are always there, so that
    the frames of a sweep have the same traces.
    """
    light = luminance(z, scale, low, high) > EVEN
    return [
        go.Heatmap(
            z=np.where(light == black, z, np.nan).astype(float),
            colorscale=[CLEAR, CLEAR],
            zmin=low,
            zmax=high,
            showscale=False,
            hoverinfo="skip",
            texttemplate=f"%{{z:.{digits}f}}",
            textfont={"size": 12, "color": "#000000" if black else "#ffffff"},
        )
        for black in (False, True)
    ]


def luminance(z: np.ndarray, scale: list[str], low: float, high: float) -> np.ndarray:
    """The relative luminance (WCAG 2) of each cell: its colour as plotly mixes it, linearly between two steps."""
    steps = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in scale]) / 255
    at = np.clip((z - low) / ((high - low) or 1.0), 0, 1) * (len(steps) - 1)
    mixed = np.stack([np.interp(at, np.arange(len(steps)), channel) for channel in steps.T], axis=-1)
    linear = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])
