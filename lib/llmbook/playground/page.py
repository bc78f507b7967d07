"""A reader's own model as a page: type, and watch it read and write.

``save_playground(model, tokenizer, "mine.html")`` writes one HTML file that holds the model, the JavaScript that runs
it and the looks. It opens from a disk, without a connection and without a server; in a notebook the result shows the
page in place. What the page computes is in assets/playground/gpt.js, what it shows in playground.js beside it; the
book's own page, with the book's own models, is made of the same files.
"""

import base64
import html
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmbook.notebook import is_static
from llmbook.playground.writing import PageError, exported_bytes
from llmbook.storage import write_file

ASSETS = Path(__file__).parent / "assets" / "playground"
SCRIPTS = (  # each needs those before it
    "text.js", "chance.js", "gpt.js", "reader.js", "load.js", "link.js",
    "parts.js", "maps.js", "candidates.js", "strip.js", "heads.js", "playground.js",
)  # fmt: skip
STYLE = "playground.css"
IN_PLACE = 10e6  # bytes: a larger page would weigh on the notebook that shows it
ON_THE_SITE = 2e6  # bytes: a larger page is the reader's to make
WITHOUT_JAVASCRIPT = "This page runs a language model in JavaScript, which is switched off in this browser."


class Playground:
    """What ``save_playground`` returns: the file at ``path``, shown in place by a notebook, linked on the site."""

    def __init__(self, path: Path):
        self.path = path

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        told, size = html.escape(repr(self)), self.path.stat().st_size
        shown = {"text/plain": repr(self), "text/html": f"<p>{told}</p>"}
        if is_static():  # the site publishes it beside the chapter, with a link here; see publishing/playground.py
            if size <= ON_THE_SITE:
                page = base64.b64encode(self.path.read_bytes()).decode("ascii")
                shown["text/html"] += (
                    f'<script type="text/plain" data-page="{html.escape(self.path.name)}">{page}</script>'
                )
        elif size <= IN_PLACE:
            page = html.escape(self.path.read_text(encoding="utf-8"))
            frame = 'title="Playground" style="width:100%;height:48rem;border:0" loading="lazy"'
            shown["text/html"] += f'<iframe {frame} srcdoc="{page}"></iframe>'
        return shown

    def __repr__(self) -> str:
        return f"{self.path}: {self.path.stat().st_size / 1e6:.1f} MB, opens in any browser"


def save_playground(
    model: Any,
    tokenizer: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "My language model",
    prompt: str = "",
    about: str = "",
) -> Playground:
    """Write ``model`` (a ``DecoderLM``) and its tokenizer as one HTML page in which a reader can try it.

    title: the heading. prompt: what stands in the box at first. about: a sentence on what the model has read. The
    weights are rounded to float16, the model itself is left as it is. The file appears whole or not at all.
    Raises PageError for a path that is no ``.html``, a first prompt that the tokenizer cannot spell or the context
    cannot hold, and where ``exported_bytes`` does.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise PageError(f"{str(path)!r} does not end in .html, by which a browser knows a page")
    packed = base64.b64encode(exported_bytes(model, tokenizer)).decode("ascii")
    try:
        n_tokens = len(tokenizer.encode(prompt))
    except ValueError as error:
        raise PageError(f"the first prompt: {error}") from None
    if n_tokens > model.config.max_seq_len:
        raise PageError(f"the first prompt has {n_tokens} tokens; the model reads at most {model.config.max_seq_len}")
    settings = {"models": [{"name": title, "about": about, "prompt": prompt, "data": "pg-model"}]}
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{_asset(STYLE)}</style>
</head>
<body class="pg-alone">
<main>
<h1>{html.escape(title)}</h1>
{playground_html(settings)}
</main>
<script type="text/plain" id="pg-model">{packed}</script>
<script>
{"".join(map(_asset, SCRIPTS))}</script>
</body>
</html>
"""
    return Playground(write_file(path, page))


def playground_html(settings: Mapping[str, Any]) -> str:
    """The element that playground.js fills; ``settings`` are described there."""
    data = json.dumps(settings, ensure_ascii=False).replace("<", "\\u003c")
    return (
        f'<div class="llm-playground"><script type="application/json">{data}</script>'
        f"<noscript><p>{WITHOUT_JAVASCRIPT}</p></noscript></div>"
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
