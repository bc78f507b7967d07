"""The form a figure has on the site: a ``<figure>`` that web/explorer.js draws, and the renderer that makes it.

Controls are native and written here, not by the script, and the height is reserved by CSS: nothing jumps while a
page loads, and without JavaScript the description is still there to read.
"""

import html
import json
import re
from typing import Any

import plotly.io as pio
from plotly.io.base_renderers import MimetypeRenderer

from llmbook.figures import payload, theme
from llmbook.figures.guesses import number


def figure_html(packed: dict, *, title: str = "", dials: list[dict] | None = None) -> str:
    """Markup of a packed figure. dials: name, label, options (texts), at (index), kind ("range" or "select")."""
    dials = dials or []
    layout = packed["fig"]["layout"]
    meta = layout.get("meta") or {}
    own = plain_text((layout.get("title") or {}).get("text") or "")
    height = int(_most(packed, ["layout", "height"], layout.get("height")) or 380)
    narrow = _most(packed, ["layout", "meta", "narrow_height"], meta.get("narrow_height"))
    style = f"--llm-height:{height}px;--llm-narrow:{int(narrow or min(height, 380))}px"
    if layout.get("width"):
        style += f";--llm-width:{int(layout['width'])}px"
    heading = title or own
    second = own if title and own and own != title else ""
    parts = [f'<figure class="llm-figure" style="{style}">']
    if heading:
        parts.append(f'<p class="llm-title">{html.escape(heading)}</p>')
    if dials:
        parts.append(controls_html(heading, dials))
    if second or (title and any(path == ["layout", "title", "text"] for path, *_ in packed["vary"])):
        parts.append(f'<p class="llm-subtitle">{html.escape(second) or "&nbsp;"}</p>')
    alt = html.escape(meta.get("alt", ""))
    parts.append(f'<div class="llm-plot" role="img" aria-label="{alt}"></div>')
    if dials:
        parts.append('<p class="llm-status" role="status" aria-live="polite"></p>')
    caption = html.escape(meta.get("caption", ""))
    values = '<details class="llm-values"><summary>Values</summary></details>'
    parts.append(f'<figcaption><span class="llm-caption">{caption}</span>{values}</figcaption>')
    data = json.dumps(
        {**packed, "dials": dials},
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    parts.append(f'<script type="application/json">{data.replace("<", chr(92) + "u003c")}</script>')
    parts.append(f"<noscript><p>This figure is drawn by JavaScript. What it shows: {alt}</p></noscript></figure>")
    return "".join(parts)


def controls_html(heading: str, dials: list[dict]) -> str:
    """The controls of an explorer that is called ``heading``."""
    controls = "".join(_control(i, dial) for i, dial in enumerate(dials))
    label = html.escape(f"Controls: {heading}" if heading else "Controls")
    return f'<div class="llm-controls" role="group" aria-label="{label}">{controls}</div>'


def predict_html(spec: dict, figure: str) -> str:
    """Markup of a question (``guesses.Question.spec``) around the figure that answers it, which waits for a guess.

    Form and figure lie upon each other, so the page keeps its length when one takes the other's place.
    """
    question, name = html.escape(spec["question"]), f"predict-{spec['id']}"
    fields = {"pick": _choices, "place": _place, "draw": _pad}[spec["kind"]](spec, name)
    data = json.dumps(spec, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        f'<section class="llm-predict" id="{name}" aria-labelledby="{name}-q">'
        f'<p class="llm-question" id="{name}-q"><strong>Your prediction.</strong> {question}</p><div class="llm-stage">'
        f'<form class="llm-guess llm-{spec["kind"]}" novalidate autocomplete="off">'
        f'<fieldset disabled aria-labelledby="{name}-q">{fields}<p class="llm-go">'
        '<button type="submit">Show what was measured</button>'
        '<button type="button" data-skip>Show without guessing</button></p>'
        '<p class="llm-say" role="status"></p></fieldset></form>'
        '<div class="llm-answer"><p class="llm-verdict" tabindex="-1"><span role="status"></span> '
        f'<button type="button">Guess again</button></p>{figure}</div></div>'
        "<noscript><p>To guess first needs JavaScript; the figure that answers is described above.</p></noscript>"
        f'<script type="application/json" class="llm-spec">{data}</script></section>'
    )


def _choices(spec: dict, name: str) -> str:
    return "".join(
        f'<label><input type="radio" name="{name}" value="{i}"><span>{html.escape(option)}</span></label>'
        for i, option in enumerate(spec["options"])
    )


def _place(spec: dict, name: str) -> str:
    low, high, unit = number(spec["low"]), number(spec["high"]), html.escape(spec["unit"])
    return (
        f'<div class="llm-axis"><input type="range" min="0" max="{spec["steps"]}" aria-label="Your guess" '
        f'aria-valuetext="not set"><span aria-hidden="true"><span>{low}</span><span>{high}</span></span></div>'
        f'<label class="llm-number"><span>or as a number</span> <input type="text" inputmode="decimal" size="8"> '
        f"<span>{unit}</span></label>"
    )


def _pad(spec: dict, name: str) -> str:
    low, high = number(spec["low"]), number(spec["high"])
    points = "".join(
        f'<label class="llm-point"><input type="range" min="0" max="{spec["steps"]}" aria-valuetext="not drawn yet">'
        f"<span>{html.escape(place)}</span></label>"
        for place in spec["names"]
    )
    return (
        '<p class="llm-how">Draw with a finger or the mouse; or with the keys: up and down move a point, left and '
        f'right go to the next.</p><div class="llm-pad"><span class="llm-end">{high}</span>'
        f'<span class="llm-end">{low}</span><div class="llm-field" style="--places:{len(spec["names"])}">'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true"><polyline points=""/></svg>'
        f"{points}</div></div>"
    )


def plain_text(text: str) -> str:
    """A plotly title without its HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br\s*/?>", " ", text)))


class SiteRenderer(MimetypeRenderer):
    """plotly's hook for "show this figure": a figure displayed while the book is built goes through here."""

    def to_mimebundle(self, fig_dict: dict) -> dict:
        frame = payload.plain(fig_dict)
        alt = theme.alt_text(frame)
        packed = payload.pack([frame], ["the figure"])
        return {"text/html": figure_html(packed), "text/plain": f"[figure: {alt}]"}


def register() -> None:
    """Draw figures the site's way, only while the book is built: a reader's plotly is left as it was."""
    if theme.is_static():
        pio.renderers["llmbook"] = SiteRenderer()
        pio.renderers.default = "llmbook"


def _most(packed: dict, path: list, value: Any) -> Any:
    """The largest value that any frame has at ``path``; ``value`` where all have the same."""
    varying = next((values for where, values, _ in packed["vary"] if list(where) == path), [value])
    return max((v for v in varying if v is not None), default=None)


def _control(index: int, dial: dict[str, Any]) -> str:
    label, options, at = html.escape(dial["label"]), dial["options"], dial["at"]
    if dial["kind"] == "range":
        value = html.escape(options[at])
        widest = max(map(len, options))
        return (
            f'<label><span>{label}</span><input type="range" data-dial="{index}" min="0" max="{len(options) - 1}" '
            f'step="1" value="{at}" aria-valuetext="{value}" autocomplete="off" disabled>'
            f'<output style="min-width:{widest}ch">{value}</output></label>'
        )
    choices = "".join(
        f'<option value="{i}"{" selected" if i == at else ""}>{html.escape(option)}</option>'
        for i, option in enumerate(options)
    )
    return (
        f'<label><span>{label}</span><select data-dial="{index}" autocomplete="off" disabled>{choices}</select></label>'
    )
