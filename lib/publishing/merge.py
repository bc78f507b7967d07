"""The sources of the site: today's notebooks with the outputs of the run that belongs to their code.

Outputs are put in by cell id, so that everything else (prose, tags, order) is the author's file as it is now.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from nbformat import NotebookNode

from . import notebooks, predictions, reference, status
from .book import REFERENCE, STATUS, Book, BookError
from .files import write_bytes, write_text

BESIDE = ("_config.yml", "_toc.yml", "references.bib", "web/logo.svg", "web/favicon.svg")
OVERWRITTEN = re.compile(r"^.*\r(?=[^\n])", re.M)  # what a line held before the cursor went back to its beginning
WIDGET = "application/vnd.jupyter.widget-view+json"


def merge(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """`source` with the outputs of `executed`. Raises BookError for an output the site must not carry."""
    done = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    for cell in notebooks.code_cells(source):
        ran = done[cell.id]
        cell.outputs, cell.execution_count = [_fit(cell.id, out) for out in _joined(ran.outputs)], ran.execution_count
    return source


def _generated(book: Book, executed: Mapping[Path, Path]) -> dict[str, str]:
    """The pages that are written here, by their names in `_toc.yml`; none that it does not list."""
    made = {STATUS: status.page(book, executed)} if STATUS in book.toc else {}
    return made | (reference.pages(book) if f"{REFERENCE}/index" in book.toc else {})


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """What was printed piece by piece, as one piece: the page would draw a box around each."""
    joined: list[NotebookNode] = []
    for output in outputs:
        before = joined[-1] if joined else {}
        if output.output_type == "stream" == before.get("output_type") and output.name == before.name:
            before.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = OVERWRITTEN.sub("", output.text)
    return joined


def _fit(cell: str, output: NotebookNode) -> NotebookNode:
    kinds = output.get("data", {})
    if WIDGET in kinds:
        raise BookError(f"cell {cell} shows a live widget, which needs a kernel: build it with llmbook.figures.")
    if images := [kind for kind in kinds if kind.startswith("image/")]:
        raise BookError(f"cell {cell} shows {images[0]} without alternative text: draw it with llmbook.figures.")
    # Names in memory (<object at 0x7f…>) differ in every run, and say nothing.
    for kind in ("text/plain", "text"):
        holder = kinds if kind == "text/plain" else output
        if isinstance(holder.get(kind), str):
            holder[kind] = re.sub(r" at 0x[0-9a-f]{6,}", "", holder[kind])
    return output


def assemble(book: Book, executed: Mapping[Path, Path]) -> Path:
    """Bring `_build/src` up to date and return it; a notebook without an executed copy is shown as committed."""
    out, wanted = book.build / "src", set()
    for page in book.pages:
        copy = out / book.name(page)
        wanted.add(copy)
        if page.suffix == ".ipynb" and page in executed:
            try:
                merged = merge(notebooks.read(page), notebooks.read(executed[page]))
            except BookError as error:
                raise BookError(f"{book.name(page)}: {error}") from None
            write_text(copy, notebooks.text(merged))
        elif page.suffix == ".md":
            write_text(copy, predictions.fill(page.read_text(encoding="utf-8"), book, executed))
        else:
            write_bytes(copy, page.read_bytes())
    for name, text in _generated(book, executed).items():
        wanted.add(out / f"{name}.md")
        write_text(out / f"{name}.md", text)
    beside = [book.root / name for name in BESIDE]
    chapters = (book.root / "chapters").rglob("*") if (book.root / "chapters").is_dir() else []
    beside += [path for path in chapters if path.suffix in {".svg", ".png", ".jpg", ".webp"}]
    for path in beside:
        if path.is_file():
            wanted.add(out / book.name(path))
            write_bytes(out / book.name(path), path.read_bytes())
    for old in [path for path in out.rglob("*") if path.is_file() and path not in wanted]:
        old.unlink()
    for folder in sorted((path for path in out.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            shutil.rmtree(folder)
    return out
