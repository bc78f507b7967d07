"""The list of every prediction the book asks for, made from the outputs of its chapters.

A page asks for it with `MARKER`; the build puts the questions there, and web/ledger.js the reader's own answers. What
was measured is in the page's data but not in its text: a list must not answer questions that its reader has still to
think about.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from nbformat import NotebookNode

from . import notebooks
from .book import Book

MARKER = '<div class="llm-ledger"></div>'
# As ledger.js says it, so that nothing moves when it takes over.
NONE_YET = "You have made no prediction yet, or this browser has not kept any. The book asks {} questions."
NO_GUESS = "No guess yet."
SPEC = re.compile(r'<script type="application/json" class="llm-spec">(.*?)</script>', re.S)
ASKS = re.compile(r"(?<![\w.])(?<!def )predict\(")  # the call that a chapter makes; see llmbook.figures


def questions(notebook: NotebookNode) -> Iterator[dict]:
    """What an executed notebook asks its reader to predict, in the order of its cells."""
    for cell in notebooks.code_cells(notebook):
        for output in cell.outputs:
            for found in SPEC.findall(output.get("data", {}).get("text/html", "")):
                yield json.loads(found)


def fill(text: str, book: Book, executed: Mapping[Path, Path]) -> str:
    """`text` with the list in the place of `MARKER`; a page without one stays as it is."""
    if MARKER not in text:
        return text
    parts, asked = [], []
    for path in book.notebooks:
        found = list(questions(notebooks.read(executed[path]))) if path in executed else []
        if not found:
            continue
        page = book.name(path).removesuffix(".ipynb") + ".html"
        title = html.escape(notebooks.title(notebooks.read(path)))
        items = "".join(_item(page, spec) for spec in found)
        parts.append(f'<h2><a href="{page}">{title}</a></h2><ul>{items}</ul>')
        asked += found
    data = json.dumps(asked, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    listed = (
        '<div class="llm-ledger">'
        "<noscript><p>Without JavaScript this page cannot show your answers; it lists the questions.</p></noscript>"
        f'<p class="llm-score" role="status">{NONE_YET.format(len(asked))}</p>'
        '<p class="llm-all" hidden><a class="llm-file" download="my-predictions.csv">Save as a file</a>'
        f'<button type="button">Forget all</button></p>{"".join(parts)}'
        f'<script type="application/json" class="llm-specs">{data}</script></div>'
    )
    return text.replace(MARKER, re.sub(r"\n\s*", " ", listed))  # an empty line would end the block in Markdown


def _item(page: str, spec: dict) -> str:
    link = f'<a href="{page}#predict-{spec["id"]}">{html.escape(spec["question"])}</a>'
    return f'<li data-id="{spec["id"]}">{link} <span class="llm-mine">{NO_GUESS}</span></li>'
