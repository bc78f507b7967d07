"""Run the notebooks, two at a time, and keep what ran under a hash of everything it depends on.

An executed notebook lies at `_build/executed/<path>/<hash>.ipynb`. The hash covers its code cells, their ids and
tags, the sources of `llmbook`, `requirements.txt`, the parameters and the Python version: prose is not among them.
Jupyter Book's own cache would not notice a change in the library, and would go on after a failing cell.
"""

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from . import notebooks
from .book import Book
from .files import digest

KEPT = 3  # executed versions of one notebook: enough to go back and forth between two branches
LIBRARY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Failure:
    """Why a notebook did not run to its end."""

    notebook: str
    seconds: float
    error: str
    cell: int | None = None
    id: str | None = None
    source: str = ""
    traceback: Sequence[str] = field(default=())

    def report(self) -> str:
        where = f", cell {self.cell} (id {self.id})" if self.cell else ""
        lines = [f"FAILED {self.notebook}{where}, after {self.seconds:.1f} s: {self.error}"]
        lines += [f"  {k:3d} | {line}" for k, line in enumerate(self.source.splitlines(), 1)]
        if self.traceback:
            lines += ["  …", *(f"  {line}" for line in self.traceback[-15:])]
        return "\n".join(lines)


@dataclass(frozen=True)
class Run:
    """What one notebook came to: the executed copy, or a failure; `seconds` is 0 when it was kept from before."""

    source: Path
    executed: Path
    seconds: float = 0.0
    failure: Failure | None = None


def key(book: Book, source: Path, parameters: dict) -> str:
    """The hash that decides whether a notebook must run again."""
    cells = notebooks.code_cells(notebooks.read(source))
    total = hashlib.sha256()
    total.update(json.dumps([[c.get("id"), c.source, notebooks.tags(c)] for c in cells]).encode())
    total.update(digest(book.root, [book.root / "lib" / "llmbook", book.root / "requirements.txt"]).encode())
    total.update(json.dumps([parameters, platform.python_version()], sort_keys=True).encode())
    return total.hexdigest()[:20]


def target(book: Book, source: Path, parameters: dict) -> Path:
    """Where the executed copy of `source` lies, whether or not it is there yet."""
    folder = book.build / "executed" / Path(book.name(source)).with_suffix("")
    return folder / f"{key(book, source, parameters)}.ipynb"


def parameters_for(source: Path, scale: str | None) -> dict:
    """`scale` is injected only where it is given and the notebook has a parameters cell."""
    tagged = any("parameters" in notebooks.tags(cell) for cell in notebooks.read(source).cells)
    return {"scale": scale} if scale and tagged else {}


def environment(book: Book, *, static: bool = True) -> dict[str, str]:
    """The variables a kernel of the book sees: its own library, one thread, no hash seed, this Python and no other."""
    path = [str(book.root / "lib"), str(LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "LLMBOOK_STATIC": "1" if static else "0",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def execute(
    book: Book,
    sources: Sequence[Path],
    *,
    scale: str | None = None,
    workers: int = 2,
    say: Callable[[str], None] = print,
) -> list[Run]:
    """Run what is not kept already, `workers` notebooks at a time; every one is tried, whatever happens to others.

    Interrupted, it stops the workers, removes what they had begun and raises KeyboardInterrupt; notebooks that
    had finished stay, so that the next build goes on from there.
    """
    runs, todo = [], []
    for source in sources:
        parameters = parameters_for(source, scale)
        wanted = target(book, source, parameters)
        _sweep(wanted.parent)
        if wanted.exists():
            os.utime(wanted)
            runs.append(Run(source, wanted))
        else:
            todo.append((source, wanted, parameters))
    if runs:
        say(f"{len(runs)} of {len(sources)} notebooks unchanged, not run again")
    pool = _Pool(book, len(todo), say)
    with ThreadPoolExecutor(max(1, workers)) as threads, pool.guarded():
        pending = [threads.submit(pool.run, *work) for work in todo]
        try:
            runs += [future.result() for future in as_completed(pending)]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.stop()
            raise
    for run in runs:
        _prune(run.executed)
    return sorted(runs, key=lambda run: sources.index(run.source))


def execute_with(book: Book, source: Path, parameters: dict, say: Callable[[str], None] = print) -> Run:
    """Run one notebook with any parameters, whatever is kept; the copy is the caller's to delete."""
    wanted = target(book, source, parameters)
    pool = _Pool(book, 1, say)
    with pool.guarded():
        try:
            return pool.run(source, wanted.with_name(f"once-{wanted.name}"), parameters)
        except BaseException:
            pool.stop()
            raise


class _Pool:
    """The worker processes of one build, and the lines that say how far they are."""

    def __init__(self, book: Book, total: int, say: Callable[[str], None]):
        self.book, self.total, self.say = book, total, say
        self.live: dict[str, subprocess.Popen] = {}
        self.cells: dict[str, str] = {}
        self.lock, self.finished, self.stopped = threading.Lock(), 0, False
        self.terminal = sys.stderr.isatty()

    def run(self, source: Path, wanted: Path, parameters: dict) -> Run:
        name, start = self.book.name(source), time.monotonic()
        wanted.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "publishing.worker", str(source), str(wanted), json.dumps(parameters)]
        with tempfile.TemporaryFile("w+") as errors:
            with self.lock:
                if self.stopped:
                    raise KeyboardInterrupt
                process = subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment(self.book),
                )
                self.live[name] = process
            failed = None
            for line in process.stdout:
                event = json.loads(line) if line.startswith("{") else {}
                failed = event.get("failed", failed)
                self._progress(name, f"{event.get('cell', '?')}/{event.get('of', '?')}")
            code = process.wait()
            seconds = time.monotonic() - start
            if code and failed is None:
                errors.seek(0)
                failed = {"error": f"the worker ended with {code}", "traceback": errors.read().splitlines()}
        failure = Failure(name, seconds, **failed) if failed else None
        with self.lock:
            del self.live[name]
            self.cells.pop(name, None)
            self.finished += 1
            if not self.stopped:
                result = "FAILED" if failure else f"{seconds:6.1f} s"
                self._clear()
                self.say(f"[{self.finished}/{self.total}] {result}  {name}")
        return Run(source, wanted, seconds, failure)

    def guarded(self):
        """While it is open, SIGTERM stops the build as Ctrl-C does."""
        return _Terminable()

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            live = list(self.live.values())
        for process in live:
            process.send_signal(signal.SIGINT)
        for process in live:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()

    def _progress(self, name: str, where: str) -> None:
        if not self.terminal:
            return
        with self.lock:
            self.cells[name] = where
            status = " · ".join(f"{n.removeprefix('chapters/')} cell {c}" for n, c in sorted(self.cells.items()))
            print(f"\r\x1b[K{status[:110]}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class _Terminable:
    def __enter__(self) -> None:
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = signal.signal(signal.SIGTERM, self._interrupt)

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGTERM, self.before)

    @staticmethod
    def _interrupt(*_: object) -> None:
        raise KeyboardInterrupt


def _sweep(folder: Path) -> None:
    """Remove what a killed worker left: nobody will finish it."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def _prune(newest: Path) -> None:
    versions = sorted(newest.parent.glob("*.ipynb"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in versions[KEPT:]:
        old.unlink(missing_ok=True)
