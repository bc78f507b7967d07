"""Make a chapter's recorded run: the chapter itself, executed with larger parameters and recording switched on."""

import json
import os
from collections.abc import Sequence

from . import notebooks
from .book import Book, BookError
from .execute import Run, execute_with


def record(book: Book, chapter: str, settings: Sequence[str]) -> None:
    """Run ``chapter`` with ``settings`` ("steps=10000") in place of its parameters; what it records is kept.

    Without settings it runs at full scale. Raises BookError for a setting the chapter does not have, and with the
    report of a failing cell; then the earlier record stays.
    """
    source = book.find(chapter)
    parameters = dict(_parse(setting) for setting in settings) or {"scale": "full"}
    cells = [
        cell.source for cell in notebooks.code_cells(notebooks.read(source)) if "parameters" in notebooks.tags(cell)
    ]
    known = {line.split("=")[0].strip() for cell in cells for line in cell.splitlines() if "=" in line}
    if unknown := set(parameters) - known:
        raise BookError(f"{book.name(source)} has no parameter {unknown.pop()!r}; it has {', '.join(sorted(known))}.")
    words = [f"CHAPTER={chapter}", *(['SET="' + " ".join(settings) + '"'] if settings else [])]
    os.environ["LLMBOOK_RECORD"] = " ".join(["make record", *words])
    run: Run = execute_with(book, source, parameters)
    if run.failure:
        raise BookError(run.failure.report())
    run.executed.unlink()


def _parse(setting: str) -> tuple[str, object]:
    name, equals, value = setting.partition("=")
    if not equals or not name.isidentifier():
        raise BookError(f"SET: {setting!r} is not of the form name=value.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
