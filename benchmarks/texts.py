"""The text a benchmark reads: by default one that comes inside a package, so that a package mirror is enough."""

import sys

DEFAULT = "shakespeare-plays"


def problem(name: str) -> str | None:
    """Why the text ``name`` cannot be had, in one line; None if it is at hand now, for every process after this one.

    Raises ValueError for a name the book does not know.
    """
    from llmbook.storage import SourceError  # here: the program starts in environments without llmbook too
    from llmbook.text import load_corpus

    try:
        load_corpus(name)
    except SourceError as error:
        return in_one_line(error)
    return None


def in_one_line(error: Exception) -> str:
    """An error as a cell of a table: its first line, and of several the last, which says what to do."""
    lines = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines() if line.strip()]
    last = f" {lines[-1]}" if len(lines) > 1 else ""
    return f"{lines[0].removesuffix(' Tried:')}{last}"[:300]


def tell(what: str, why: str) -> None:
    """One line about what is left out."""
    print(f"{what}: {why}", file=sys.stderr, flush=True)
