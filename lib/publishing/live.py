"""Which chapters must prove themselves in live mode too: widgets in a kernel, run and compared by nbval.

That is every chapter a change can reach, and in CI a share of the others that moves on from day to day; the weekly run
takes all. A change is what lies between the working tree and a commit: `LLMBOOK_BASE`, or where this branch left the
published one, or the commit before. Where there is no such commit at hand, every chapter counts as changed. A pass is
kept as executions are, under the same key.
"""

import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path

from . import records
from .book import Book, BookError
from .execute import FRESH, Work

SHARE = 5  # in CI one chapter in five, whatever has changed


def due(book: Book) -> tuple[list[Path], str]:
    """The notebooks to run live, and a line that says why these."""
    works = [Work(book, path, {}) for path in book.notebooks]
    if os.environ.get(FRESH):
        return [work.source for work in works], f"all {len(works)}, for no record is to be taken"
    kept = [work for work in works if _passed(work)]
    open_ = [work for work in works if work not in kept]
    before = keys_at(book, base(book))
    touched = [work for work in open_ if before is None or before.get(work.name) != work.key]
    turn = _turn(book, works) if os.environ.get("CI") else []
    chosen = [work for work in open_ if work in touched or work in turn]
    also = f", {len(chosen) - len(touched)} whose turn it is" if turn else ""
    known = "" if before is not None else " (no earlier commit is at hand: all count as changed)"
    return [work.source for work in chosen], f"{len(touched)} changed{known}{also}, {len(kept)} passed before"


def keep(book: Book, passed: Collection[Path]) -> None:
    """Remember the notebooks that passed, as they are now."""
    for source in passed:
        work = Work(book, source, {})
        path = _place(work)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"metadata": {}}), encoding="utf-8")
        records.seal(path, work.inputs, book.root, {})
        records.keep(f"live/{work.name}", path)
        records.prune(path.parent)


def _passed(work: Work) -> bool:
    path = _place(work)
    if not path.exists() and not records.fetch(f"live/{work.name}", path):
        return False
    return not records.fault(path, work.inputs, work.book.root)


def _place(work: Work) -> Path:
    return work.book.build / "live" / work.name / f"{work.key}.json"


def base(book: Book) -> str | None:
    """The commit that changes are counted from."""
    if chosen := os.environ.get("LLMBOOK_BASE"):
        return _git(book, "rev-parse", "--verify", "--quiet", f"{chosen}^{{commit}}")
    head = _git(book, "rev-parse", "HEAD")
    for published in (f"origin/{book.address[1]}", book.address[1]):
        left = _git(book, "merge-base", "HEAD", published)
        if left and left != head:
            return left
    return _git(book, "rev-parse", "--verify", "--quiet", "HEAD^")


def keys_at(book: Book, commit: str | None) -> dict[str, str] | None:
    """The keys of that commit's notebooks; None where they cannot be had."""
    if not commit:
        return None
    packed = subprocess.run(["git", "archive", commit], cwd=book.root, capture_output=True, check=False)
    if packed.returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        then = Book(Path(folder).resolve())
        try:
            works = [Work(then, path, {}) for path in then.notebooks]
            return {work.name: work.key for work in works}
        except BookError:
            return None


def _turn(book: Book, works: list[Work]) -> list[Work]:
    """Every fifth notebook, beginning with another each day: the day of the commit, so that a repetition agrees."""
    seconds = _git(book, "log", "-1", "--format=%ct") or "0"
    return works[int(seconds) // 86400 % SHARE :: SHARE]


def _git(book: Book, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=book.root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
