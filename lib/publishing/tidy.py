"""Keep the committed notebooks in their normal form, and refresh their checked outputs on request."""

from pathlib import Path

from . import notebooks
from .book import Book, BookError
from .contract import problems
from .execute import execute
from .setup_cell import setup_source


def tidy(book: Book, sources: list[Path]) -> list[str]:
    """Rewrite what is not in its normal form; return the names of the notebooks that changed."""
    setup = setup_source(book.address[0], book.ref)
    return [book.name(path) for path in sources if notebooks.write(path, notebooks.normal(notebooks.read(path), setup))]


def refresh(book: Book, sources: list[Path]) -> list[str]:
    """Run `sources` (as a build does, which keeps what ran) and put what they print into their checked cells.

    Raises BookError where a cell fails, or where a checked cell prints nothing; then no notebook is touched.
    """
    tidy(book, sources)
    runs = execute(book, sources)
    if failures := [run.failure.report() for run in runs if run.failure]:
        raise BookError("\n\n".join(failures))
    fresh = {}
    for run in runs:
        outputs = {cell.id: cell for cell in notebooks.read(run.executed).cells}
        fresh[run.source] = notebooks.read(run.source)
        for cell in notebooks.code_cells(fresh[run.source]):
            if notebooks.CHECKED not in notebooks.tags(cell):
                continue
            cell.outputs, cell.execution_count = (notebooks.checked_outputs(outputs[cell.id]), 1)
            if not cell.outputs:
                raise BookError(f"{book.name(run.source)}: cell {cell.id} is checked but prints nothing: use print().")
    return [book.name(path) for path, notebook in fresh.items() if notebooks.write(path, notebooks.normal(notebook))]


def check(book: Book) -> list[str]:
    """Every problem of every notebook, and of the addresses; empty when the book is in order."""
    from .address import stale

    return [problem for path in book.notebooks for problem in problems(book, path)] + stale(book)
