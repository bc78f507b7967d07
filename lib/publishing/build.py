"""From sources to site: run the notebooks, merge, render."""

import contextlib
import sys
import time
from collections.abc import Iterator

from .book import Book, BookError
from .execute import Work, execute, parameters_for, taken
from .merge import assemble
from .render import render


def build(book: Book, *, chapter: str | None = None, scale: str | None = None, workers: int = 2) -> None:
    """Build the whole site, running every notebook or only `chapter`.

    Raises BookError with the report of every failing cell; what ran well is kept for the next build.
    """
    if scale not in (None, "quick", "full", "auto"):
        raise BookError(f"SCALE={scale}: choose quick, full or auto.")
    with _alone(book):
        start = time.monotonic()
        sources = [book.find(chapter)] if chapter else book.notebooks
        runs = execute(book, sources, scale=scale, workers=workers, say=_say)
        if failures := [run.failure for run in runs if run.failure]:
            reports = "\n\n".join(failure.report() for failure in failures)
            ran = sum(run.failure is None for run in runs)
            raise BookError(f"\n{reports}\n\n{len(failures)} failed; {ran} ran well and are kept. No site was built.")
        for run in runs:
            for line in run.wrong:
                _say(f"{book.name(run.source)}: {line}")
        executed = {run.source: run.executed for run in runs}
        if chapter:
            others = [page for page in book.notebooks if page not in executed]
            kept = [Work(book, page, parameters_for(page, None)) for page in others]
            executed |= {work.source: work.target for work in kept if taken(work, _say)}
            if bare := [book.name(page) for page in others if page not in executed]:
                _say(f"not run, shown without outputs: {', '.join(bare)}")
        middle = time.monotonic()
        source = assemble(book, executed)
        changed = render(book, source)
        end = time.monotonic()
    what = f"rendered in {end - middle:.1f} s" if changed else "nothing to render"
    _say(f"Notebooks in {middle - start:.1f} s, {what}.")
    page = book.html / f"{book.name(book.find(chapter)).removesuffix('.ipynb') if chapter else 'index'}.html"
    _say(f"The book is at {page.as_uri()} (`make serve` shows it under a local address).")


@contextlib.contextmanager
def _alone(book: Book) -> Iterator[None]:
    """One build at a time in one checkout: two would write the same files."""
    try:
        import fcntl
    except ImportError:  # Windows: the reader keeps order himself
        yield
        return
    book.build.mkdir(exist_ok=True)
    with (book.build / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BookError("another build of this checkout is running: wait for it, or stop it.") from None
        yield


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)
