"""Texts side by side: what a model writes at different moments, or two answers to one prompt.

Plain HTML in columns that wrap under each other on a phone; line breaks and spaces are kept as they are.
"""

import html
from collections.abc import Mapping
from typing import Any

from llmbook.figures.theme import FigureError


class TextColumns:
    """What ``text_columns`` returns: displays itself as HTML."""

    def __init__(self, markup: str, text: str):
        self.markup, self.text = markup, text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        return {"text/html": self.markup, "text/plain": self.text}


def text_columns(texts: Mapping[str, str], *, title: str = "", caption: str = "") -> TextColumns:
    """One column a text, under its name. The texts are shown literally, so there is nothing to describe in ``alt``.

    Raises FigureError when there are none.
    """
    if not texts:
        raise FigureError("text_columns: no texts; give {'name': 'text'}")
    columns = "".join(
        f'<div style="flex:1 1 14rem;min-width:0"><strong>{html.escape(name)}</strong>'
        f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0">{html.escape(text)}</pre></div>'
        for name, text in texts.items()
    )
    heading = f'<p class="llm-title"><strong>{html.escape(title)}</strong></p>' if title else ""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    row = f'<div style="display:flex;flex-wrap:wrap;gap:.5rem 1rem">{columns}</div>'
    markup = f'<figure class="llm-strip" style="margin:1rem 0">{heading}{row}{below}</figure>'
    return TextColumns(markup, "\n\n".join(f"--- {name} ---\n{text}" for name, text in texts.items()))
