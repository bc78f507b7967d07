"""Text coloured by a number per token: surprise, probability, the token that was predicted wrongly.

Plain HTML, so that the words wrap as words do. The colour is an opacity over the page, so the text stays readable
in light and dark, and each number is in the text for a screen reader and on hover.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmbook.figures.theme import COLOURS, FigureError, as_array, rgba


class TokenStrip:
    """What ``token_strip`` returns: displays itself as HTML."""

    def __init__(self, markup: str, text: str):
        self.markup, self.text = markup, text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        return {"text/html": self.markup, "text/plain": self.text}


def token_strip(
    tokens: Sequence[str],
    values: Any,
    *,
    alt: str,
    title: str = "",
    caption: str = "",
    label: str = "value",
    vmax: float | None = None,
    digits: int = 2,
) -> TokenStrip:
    """``tokens`` in reading order, each shaded by its value (0 = clear, ``vmax`` = darkest); NaN = not scored.

    Raises FigureError when there are not as many values as tokens, or a value is negative.
    """
    v = as_array(values, "token_strip: values", 1).astype(float)
    if len(v) != len(tokens):
        raise FigureError(f"token_strip: {len(tokens)} tokens but {len(v)} values")
    if not alt.strip():
        raise FigureError("token_strip: alt is empty; say what the colours show")
    if np.nanmin(v, initial=0.0) < 0:
        raise FigureError(f"token_strip: the value {np.nanmin(v):g} is negative; give magnitudes, such as nats")
    top = vmax or float(np.nanmax(v, initial=0.0)) or 1.0
    words = []
    for token, value in zip(tokens, v, strict=True):
        shade = 0.0 if np.isnan(value) else 0.42 * min(value / top, 1.0)
        number = "not scored" if np.isnan(value) else f"{label} {value:.{digits}f}"
        text = html.escape(str(token)).replace("\n", "⏎<br>")
        words.append(
            f'<span title="{html.escape(number)}" style="background:{rgba(COLOURS[5], round(shade, 3))};'
            f'border-radius:3px;white-space:pre-wrap">{text}</span>'
        )
    heading = f'<p class="llm-title"><strong>{html.escape(title)}</strong></p>' if title else ""
    scale = (
        f"{html.escape(label)}: 0 "
        f'<span aria-hidden="true" style="display:inline-block;width:6em;height:.8em;vertical-align:middle;'
        f'background:linear-gradient(90deg,transparent,{rgba(COLOURS[5], 0.42)})"></span> {top:.{digits}f}'
    )
    markup = (
        f'<figure class="llm-strip" style="margin:1rem 0">{heading}'
        f'<div role="group" aria-label="{html.escape(alt)}" style="line-height:1.9">{"".join(words)}</div>'
        f"<figcaption>{scale}{'. ' + html.escape(caption) if caption else ''}</figcaption></figure>"
    )
    return TokenStrip(markup, "".join(map(str, tokens)))
