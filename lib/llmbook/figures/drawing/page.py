"""The figure around a drawing: title, controls, what it says to those who cannot see it, and its panels as a list.

Everything is in the markup: a page without scripts shows the drawing and has every panel to read. A few lines of script
(assets/drawing/panels.js) open a panel in place when its box is clicked or has the focus, in notebooks too.
"""

import base64
import gzip
import html
import json
from pathlib import Path

from llmbook.figures.drawing.parts import Panel
from llmbook.figures.drawing.shapes import Drawing

ASSETS = Path(__file__).parent.parent / "assets" / "drawing"
STYLE, SCRIPT = ASSETS / "drawing.css", ASSETS / "panels.js"


def figure(drawing: Drawing, *, title: str = "", controls: str = "", payload: dict | None = None) -> str:
    """Markup of a drawing; of an explorer where ``controls`` and ``payload`` are given (see ``frames``)."""
    heading = title or drawing.title
    second = drawing.title if title and drawing.title != title else ""
    parts = [f'<figure class="llm-figure" style="--llm-width:{drawing.width:g}px">']
    if heading:
        parts.append(f'<p class="llm-title">{html.escape(heading)}</p>')
    parts.append(controls)
    if second or (title and payload):
        parts.append(f'<p class="llm-subtitle">{html.escape(second) or "&nbsp;"}</p>')
    told = f'role="{"group" if drawing.panels else "img"}" aria-label="{html.escape(drawing.alt)}"'
    scroll = f' tabindex="0" style="--llm-least:{drawing.width:g}px"' if drawing.scroll else ""
    parts.append(f'<div class="llm-plot llm-drawing" {told}{scroll}>{drawing.svg()}</div>')
    if drawing.panels:
        parts.append('<div class="llm-panel" aria-live="polite"></div>')
    if payload:
        parts.append('<p class="llm-status" role="status" aria-live="polite"></p>')
    parts.append(f'<figcaption><span class="llm-caption">{html.escape(drawing.caption)}</span></figcaption>')
    if drawing.panels:
        parts.append(f'<details class="llm-panels"><summary>Every part, as a list</summary>{panels(drawing)}</details>')
    parts.append(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
    if payload:
        data = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
        parts.append(f'<script type="application/json">{data}</script>')
        parts.append("<noscript><p>To move the controls needs JavaScript; this is how they start.</p></noscript>")
    if drawing.panels:
        parts.append(f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>")
    return "".join(parts) + "</figure>"


def frames(drawings: list[Drawing]) -> dict:
    """The drawings of an explorer as one JSON-able object: web/explorer.js puts the one that is asked for in place."""
    shown = [
        {"svg": one.svg(), "alt": one.alt, "caption": one.caption, "title": one.title, "panels": panels(one)}
        for one in drawings
    ]
    told = json.dumps(shown, ensure_ascii=False).encode()
    return {"drawings": True, "n": len(shown), "blob": base64.b64encode(gzip.compress(told, 9, mtime=0)).decode()}


def panels(drawing: Drawing) -> str:
    """All panels of a drawing, each once, to be read one below the other."""
    told = {drawing.panel_id(i): _panel(panel) for i, panel in enumerate(drawing.panels)}
    return "".join(f'<div id="{name}">{inside}</div>' for name, inside in told.items())


def _panel(panel: Panel) -> str:
    facts = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd>" for name, fact in panel.facts.items())
    code = f"<pre><code>{html.escape(panel.code)}</code></pre>" if panel.code else ""
    return f"<p><strong>{html.escape(panel.title)}</strong></p>{f'<dl>{facts}</dl>' if facts else ''}{code}"
