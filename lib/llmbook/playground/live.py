"""One line of text that a small model goes on with: what it expects next, and a button that lets it write.

The first state is in the markup, with the numbers of the run that made it, so nothing is empty before the model has
come, and a page without JavaScript still says something. assets/playground/live.js brings it to life with the same
code that the playground runs. On the site the model's file lies beside that script and is fetched when a reader
touches the figure; in a notebook the figure carries the model along.
"""

import base64
import html
import json
from typing import Any

import numpy as np

from llmbook.notebook import is_static
from llmbook.playground.page import ASSETS
from llmbook.playground.writing import PageError, exported_bytes

STYLE, SCRIPT = "live.css", "live.js"
SCRIPTS = ("text.js", "chance.js", "gpt.js", "reader.js", "load.js", "parts.js", SCRIPT)  # each needs those before it
LOOK = "<style>body { margin: 0; font-family: system-ui, sans-serif; background: #fff; }</style>"  # of a frame


class LiveModel:
    """What ``live_model`` returns: displays itself, in a frame of its own in a notebook, in the page on the site."""

    def __init__(self, figure: str, packed: bytes, text: str):
        self.figure, self.packed, self.text = figure, packed, text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        shown = self.figure
        if not is_static():
            data = f'<script type="text/plain" id="lv-model">{base64.b64encode(self.packed).decode("ascii")}</script>'
            code = "".join(f"<script>{_asset(name)}</script>" for name in SCRIPTS[:-1])
            code += f'<script type="module">{_asset(SCRIPT)}</script>'
            page = f"{LOOK}<style>{_asset(STYLE)}</style>{self.figure}{data}{code}"
            frame = 'title="A live model" style="width:100%;height:26rem;border:0"'
            shown = f'<iframe {frame} srcdoc="{html.escape(page)}"></iframe>'
        return {"text/html": shown, "text/plain": self.text}


def live_model(
    model: Any,
    tokenizer: Any,
    prompt: str,
    chances: Any,
    *,
    published: str,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 1,
    rows: int = 6,
    caption: str = "",
) -> LiveModel:
    """Show ``prompt`` and the likeliest of what comes next; a reader lets ``model`` go on, or chooses for it.

    chances: the probability [V] that each token is drawn with after ``prompt``, at this ``temperature`` and ``top_p``;
    the page computes the same for every later token. published: the name of the model's file on the site. Raises
    PageError where the chances are not those of the tokenizer's tokens, and where ``exported_bytes`` does.
    """
    p = np.asarray(chances.detach().float().cpu() if hasattr(chances, "detach") else chances, dtype=float)  # [V]
    if p.ndim != 1:
        raise PageError(f"live_model: chances has shape {p.shape}; expected [V]")
    if len(p) != tokenizer.vocab_size:
        raise PageError(f"live_model: {len(p)} chances, but the tokenizer has {tokenizer.vocab_size} tokens")
    if not np.isclose(p.sum(), 1, atol=1e-3) or p.min() < 0:
        raise PageError(f"live_model: the chances sum to {p.sum():.4g}; give probabilities")
    ids = tokenizer.encode(prompt)
    if not ids:
        raise PageError("live_model: the prompt is empty; give a line to go on from")
    order = np.argsort(-p, kind="stable")[:rows]
    settings = {
        "prompt": prompt,
        "seed": seed,
        "options": {"temperature": temperature, "topP": top_p},
        **({"model": published} if is_static() else {"data": "lv-model"}),
    }
    pieces = [tokenizer.decode(ids[: i + 1])[len(tokenizer.decode(ids[:i])) :] for i in range(len(ids))]
    bars = "".join(
        f'<li><button type="button" disabled data-token="{i}" style="--share:{p[i] / p[order[0]]:.3f}">'
        f"<b>{html.escape(tokenizer.token(int(i)))}</b><span>{_percent(p[i])}</span></button></li>"
        for i in order
    )
    data = json.dumps(settings, ensure_ascii=False).replace("<", "\\u003c")
    figure = f"""<figure class="llm-live"><label><span>A line</span>\
<input class="lv-input" type="text" value="{html.escape(prompt)}" spellcheck="false" autocomplete="off" disabled>\
</label>
<div class="lv-text" tabindex="0" role="group" aria-label="The text, token by token"><div>\
{"".join(f"<span>{html.escape(piece)}</span>" for piece in pieces)}</div></div>
<ol class="lv-bars" aria-label="The likeliest next tokens">{bars}</ol>
<div class="lv-act"><button type="button" class="lv-write" disabled>Write</button>\
<button type="button" class="lv-over" disabled>Start over</button>\
<progress class="lv-progress" max="1" aria-label="The model's file" hidden></progress>\
<p class="lv-status" role="status"></p></div>
<noscript><p>With JavaScript switched on, the model writes here.</p></noscript>
<figcaption>{html.escape(caption)}</figcaption>
<script type="application/json">{data}</script></figure>"""
    likely = ", ".join(f"{tokenizer.token(int(i))} {_percent(p[i])}" for i in order)
    return LiveModel(figure, b"" if is_static() else exported_bytes(model, tokenizer), f"[{prompt} … next: {likely}]")


def _percent(p: float) -> str:
    """As parts.js writes it."""
    if p >= 0.0995:
        return f"{int(100 * p + 0.5)} %"
    return f"{100 * p:.1f} %" if p >= 0.0005 else "< 0.1 %" if p > 0 else "0 %"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
