"""`make compare`: what a reader's executed chapters gave, beside the numbers recorded for the book.

The newest executed copy of each chapter is read; nothing is run. One line a chapter, a table where a number is outside
its band, and the exit status 1 where a number differs and nothing known explains it.
"""

from collections.abc import Callable
from pathlib import Path

from llmbook.results import comparison, reference

from . import notebooks, told
from .book import Book, BookError

MANY = 12  # rows of a table of what is explained; the unexplained ones are all shown


def compare(book: Book, chapter: str | None = None, say: Callable[[str], None] = print) -> int:
    """Compare every chapter that has been executed, or ``chapter`` alone.

    Returns 0 if every number is in its band or explained. Raises BookError where nothing has been executed, and for a
    reference that is damaged.
    """
    sources = [book.find(chapter)] if chapter else book.notebooks
    copies = {source: newest(book, source) for source in sources}
    if not any(copies.values()):
        raise BookError(f"nothing to compare: run `make book{f' CHAPTER={chapter}' if chapter else ''}` first.")
    unexplained, damaged = 0, []
    for source, copy in copies.items():
        name = short(book, source)
        if copy is None:
            say(f"{name}: not run yet, `make book CHAPTER={name}` runs it")
            continue
        try:
            unexplained += _one(name, copy, say)
        except reference.DamagedReference as error:
            damaged.append(str(error))
    if damaged:
        raise BookError("\n".join(damaged))
    return 1 if unexplained else 0


def newest(book: Book, source: Path) -> Path | None:
    """The executed copy of ``source`` that was made or used last."""
    folder = book.build / "executed" / Path(book.name(source)).with_suffix("")
    return max(folder.glob("*.ipynb"), key=lambda path: path.stat().st_mtime, default=None)


def short(book: Book, source: Path) -> str:
    """How a chapter is named in commands and references: ``2-concepts/attention``."""
    return book.name(source).removesuffix(".ipynb").removeprefix("chapters/")


def _one(name: str, copy: Path, say: Callable[[str], None]) -> int:
    executed = notebooks.read(copy)
    yours, circumstances = told.quantities(executed), told.circumstances(executed)
    ours = reference.nearest(name, circumstances, among=yours)
    if ours is None:
        say(f"{name}: nothing recorded, `make reference CHAPTER={name}` records it")
        return 0
    found = comparison.compare(name, yours, circumstances, ours)
    say(found.summary())
    if found.outside:
        explained = [row for row in found.outside if row not in found.unexplained]
        say("\n" + comparison.table([*found.unexplained, *explained[:MANY]]))
        left = len(explained) - MANY
        lines = [f"{left} more rows of the same kind"] if left > 0 else []
        say("\n".join(f"- {line}" for line in [*lines, *comparison.notes(found, circumstances)]) + "\n")
    return len(found.unexplained)
