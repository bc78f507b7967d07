"""An explorer in which a reader types a text and sees it cut into tokens, at any size of the vocabulary.

The choice: nothing is computed beforehand. The merges of byte-pair encoding are learned one after the other, so a
small vocabulary is the beginning of a large one, and one list of merges holds every size up to its own. The page gets
that list, four bytes a merge, and cuts the text just as it is typed (assets/tokens/cut.js): on the site, in a notebook,
in Colab. Where scripts do not run, the first state stands there to read.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmbook.figures.theme import FigureError
from llmbook.playground import page

ASSETS = Path(__file__).parent / "assets"
SCRIPT = ASSETS / "tokens" / "cut.js"
SCRIPTS = (page.ASSETS / "text.js", SCRIPT)  # the second needs the first
IDS = 60  # shown below the tokens
STYLE = """
.llm-cut { margin: 1rem 0; }
.llm-cut textarea { width: 100%; box-sizing: border-box; min-height: 5.5rem; font: inherit; padding: .4rem .6rem;
  color: inherit; background: transparent; border: 1px solid var(--pst-color-text-muted, #6b7280); border-radius: 4px; }
.llm-cut .llm-cut-tokens { line-height: 2; min-height: 6rem; max-height: 22rem; overflow: auto; overflow-wrap: anywhere;
  font-family: ui-monospace, monospace; font-size: .92em; margin: .4rem 0; }
.llm-cut .llm-cut-tokens span { padding: .15em .1em; border-radius: 3px; white-space: pre-wrap; }
.llm-cut .even { background: rgba(0,114,178,.20); }
.llm-cut .odd { background: rgba(213,94,0,.22); }
.llm-cut p { margin: .2rem 0; }
.llm-cut .llm-cut-ids { font-family: ui-monospace, monospace; font-size: .8em; overflow-wrap: anywhere; }
"""


class TokenExplorer:
    """What ``token_explorer`` returns: displays itself as HTML."""

    def __init__(self, markup: str, text: str):
        self.markup, self.text = markup, text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        return {"text/html": self.markup, "text/plain": self.text}


def token_explorer(
    tokenizers: Mapping[str, Any],
    texts: Mapping[str, str],
    *,
    sizes: Sequence[int],
    size: int,
    title: str,
    caption: str = "",
) -> TokenExplorer:
    """Type, or choose one of ``texts``, and see it cut by one of ``tokenizers`` with any of ``sizes`` tokens.

    tokenizers: by what they were learned from; each a ``BPETokenizer`` without special tokens, whose first merges are
    its smaller selves. sizes: of the vocabulary, ascending; size: the one shown first, with the first tokenizer and
    the first text. Raises FigureError for a tokenizer of another kind and sizes that do not fit.
    """
    if not tokenizers or not texts:
        raise FigureError("token_explorer: give at least one tokenizer and one text, by name")
    sizes = list(sizes)
    if sizes != sorted(set(sizes)) or not sizes or sizes[0] < 256:
        raise FigureError(f"token_explorer: sizes={sizes}; give ascending sizes from 256, the bytes, on")
    if size not in sizes:
        raise FigureError(f"token_explorer: size={size} is not one of {sizes}")
    packed = [{"name": name, "merges": _merges(name, tok)} for name, tok in tokenizers.items()]
    data = json.dumps(
        {"tokenizers": packed, "texts": list(texts.values()), "sizes": sizes}, ensure_ascii=False, separators=(",", ":")
    ).replace("<", "\\u003c")
    first, text = next(iter(tokenizers.values())), next(iter(texts.values()))
    tokens = first.prefix(size).tokens(text)
    strip = "".join(
        f'<span class="{"odd" if i % 2 else "even"}">{html.escape(token)}</span>{"<br>" if token.endswith("↵") else ""}'
        for i, token in enumerate(tokens)
    )
    n_bytes = len(text.encode("utf-8"))
    label = html.escape(title)
    markup = f"""<figure class="llm-strip llm-cut"><style>{STYLE}</style>
<p class="llm-title"><strong>{label}</strong></p>
<div class="llm-controls" role="group" aria-label="Controls: {label}">
<label><span>example</span>{_select("example", list(texts))}</label>
<label><span>merges learned from</span>{_select("learned", list(tokenizers))}</label>
<label><span>vocabulary</span><input type="range" data-part="size" min="0" max="{len(sizes) - 1}" step="1" \
value="{sizes.index(size)}" aria-valuetext="{size:,}" autocomplete="off" disabled>\
<output data-part="size-value" style="min-width:6ch">{size:,}</output></label>
</div>
<textarea data-part="text" aria-label="Text to cut" rows="3" spellcheck="false" autocomplete="off" disabled>\
{html.escape(text)}</textarea>
<div class="llm-cut-tokens" data-part="tokens" role="group" aria-label="The tokens" tabindex="0">{strip}</div>
<p class="llm-cut-ids" data-part="ids">{_ids(first.prefix(size).encode(text))}</p>
<p data-part="count" role="status" aria-live="polite">{n_bytes:,} bytes → {len(tokens):,} tokens, \
{n_bytes / max(len(tokens), 1):.2f} bytes a token</p>
<figcaption>Tokens of this text by merges learned from: <span data-part="others">\
{html.escape(" · ".join(f"{name} {len(t.prefix(size).encode(text)):,}" for name, t in tokenizers.items()))}</span>. \
{html.escape(caption)}</figcaption>
<script type="application/json">{data}</script>
<script>{{
{"".join(script.read_text(encoding="utf-8") for script in SCRIPTS).rstrip()}
}}</script></figure>"""
    return TokenExplorer(markup, f"[figure: {title}: {' | '.join(tokens)}]")


def _ids(ids: Sequence[int]) -> str:
    """The line of ids below the tokens, as cut.js writes it."""
    return "ids: " + " ".join(map(str, ids[:IDS])) + (" …" if len(ids) > IDS else "")


def _merges(name: str, tokenizer: Any) -> str:
    """The two ids of every merge as 16-bit numbers, in base64."""
    vocab, merges = getattr(tokenizer, "vocab", None), getattr(tokenizer, "merges", None)
    if vocab is None or merges is None or getattr(tokenizer, "special_tokens", None):
        raise FigureError(
            f"token_explorer: {name!r} is a {type(tokenizer).__name__}; give a BPETokenizer without special tokens"
        )
    if len(vocab) > 2**16:
        raise FigureError(f"token_explorer: {name!r} has {len(vocab):,} tokens; the page numbers them with 16 bits")
    ids = {piece: index for index, piece in enumerate(vocab)}
    pairs = np.array([(ids[left], ids[right]) for left, right in merges], dtype="<u2").reshape(-1, 2)
    return base64.b64encode(pairs.tobytes()).decode("ascii")


def _select(part: str, options: list[str]) -> str:
    inner = "".join(f'<option value="{i}">{html.escape(option)}</option>' for i, option in enumerate(options))
    return f'<select data-part="{part}" autocomplete="off" disabled>{inner}</select>'
