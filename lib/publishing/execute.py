"""Run the notebooks, two at a time, and keep what ran under a hash of everything it depends on.

An executed notebook lies at `_build/executed/<path>/<hash>.ipynb`; inputs.py says what the hash covers, records.py
when one that is there is taken. Jupyter Book's own cache would not notice a change in the library, and would go on
after a failing cell.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import inputs as inputs_of
from . import notebooks, records
from .book import Book
from .reach import Packages

FRESH = "LLMBOOK_FRESH"  # set: no record is taken, every notebook runs, and is compared with the record it replaces
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
    wrong: tuple[str, ...] = ()  # what the record it replaces had said otherwise, where none was to be taken


@dataclass(frozen=True)
class Work:
    """One notebook to be executed, with all its execution depends on."""

    book: Book
    source: Path
    parameters: dict

    @property
    def name(self) -> str:
        return str(Path(self.book.name(self.source)).with_suffix(""))

    @functools.cached_property
    def inputs(self) -> dict[str, str]:
        return self.inputs_now()

    def inputs_now(self) -> dict[str, str]:
        packages = Packages({"llmbook": self.book.root / "lib"})
        return inputs_of.inputs(self.book, self.source, self.parameters, packages=packages)

    @property
    def key(self) -> str:
        return inputs_of.key(self.inputs)

    @property
    def target(self) -> Path:
        return self.book.build / "executed" / self.name / f"{self.key}.ipynb"


def key(book: Book, source: Path, parameters: dict) -> str:
    """The hash that decides whether a notebook must run again."""
    return Work(book, source, parameters).key


def target(book: Book, source: Path, parameters: dict) -> Path:
    """Where the executed copy of `source` lies, whether or not it is there yet."""
    return Work(book, source, parameters).target


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
    fresh = bool(os.environ.get(FRESH))
    for source in sources:
        work = Work(book, source, parameters_for(source, scale))
        _sweep(work.target.parent)
        if not fresh and taken(work, say):
            runs.append(Run(source, work.target))
        else:
            todo.append(work)
    if runs:
        say(f"{len(runs)} of {len(sources)} notebooks unchanged, not run again")
    pool = _Pool(book, len(todo), say)
    with ThreadPoolExecutor(max(1, workers)) as threads, pool.guarded():
        pending = [threads.submit(_renew if fresh else pool.run, *([pool] if fresh else []), work) for work in todo]
        try:
            runs += [future.result() for future in as_completed(pending)]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.stop()
            raise
    for run in runs:
        records.prune(run.executed.parent)
    return sorted(runs, key=lambda run: sources.index(run.source))


def taken(work: Work, say: Callable[[str], None] = print) -> bool:
    """Whether there is a record of `work`, here or in the user's folder, and it is in order."""
    wanted = work.target
    if not wanted.exists() and not records.fetch(work.name, wanted):
        return False
    if reason := records.fault(wanted, work.inputs, work.book.root):
        records.put_away(wanted, reason, work.book.name(work.source), say)
        return False
    os.utime(wanted)
    return True


def _renew(pool: "_Pool", work: Work) -> Run:
    """Run `work` whatever is kept, and say where the record that it replaces differs."""
    from .playback import wrong

    kept = notebooks.read(work.target) if taken(work, pool.say) else None
    work.target.unlink(missing_ok=True)
    run = pool.run(work)
    if run.failure or kept is None:
        return run
    return replace(run, wrong=tuple(wrong(kept, notebooks.read(run.executed))))


def execute_with(book: Book, source: Path, parameters: dict, say: Callable[[str], None] = print) -> Run:
    """Run one notebook with any parameters, whatever is kept; the copy is the caller's to delete."""
    work = Work(book, source, parameters)
    pool = _Pool(book, 1, say)
    with pool.guarded():
        try:
            return pool.run(work, once=True)
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

    def run(self, work: Work, *, once: bool = False) -> Run:
        """Execute `work` and keep its record; `once`, under a name of its own that nobody will find."""
        name, start, wanted = self.book.name(work.source), time.monotonic(), work.target
        if once:
            wanted = wanted.with_name(f"once-{wanted.name}")
        wanted.parent.mkdir(parents=True, exist_ok=True)
        paths = [str(self.book.root), str(work.source), str(wanted)]
        command = [sys.executable, "-m", "publishing.worker", *paths, json.dumps(work.parameters)]
        with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as given:
            json.dump(work.inputs, given)
            given.seek(0)
            with self.lock:
                if self.stopped:
                    raise KeyboardInterrupt
                process = subprocess.Popen(
                    command,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment(self.book),
                )
                self.live[name] = process
            failed, last = None, None
            for line in process.stdout:
                event = json.loads(line) if line.startswith("{") else {}
                failed, last = event.get("failed", failed), event.get("cell", last)
                self._progress(name, f"{last or '?'}/{event.get('of', '?')}")
            code = process.wait()
            seconds = time.monotonic() - start
            if code and failed is None:
                errors.seek(0)
                failed = {"error": f"the worker ended with {code}", "traceback": errors.read().splitlines()}
                failed |= _begun(work.source, last)
        if failed is None and not once:
            failed = self._kept(work, wanted)
        failure = Failure(name, seconds, **failed) if failed else None
        with self.lock:
            del self.live[name]
            self.cells.pop(name, None)
            self.finished += 1
            if not self.stopped:
                result = "FAILED" if failure else f"{seconds:6.1f} s"
                self._clear()
                self.say(f"[{self.finished}/{self.total}] {result}  {name}")
        return Run(work.source, wanted, seconds, failure)

    def _kept(self, work: Work, made: Path) -> dict | None:
        """Keep the record; none is made of a run under whose feet something was edited."""
        now = work.inputs_now()
        if now == work.inputs:
            records.keep(work.name, made)
            return None
        made.unlink(missing_ok=True)
        changed = next(
            name for name in sorted(now.keys() | work.inputs.keys()) if now.get(name) != work.inputs.get(name)
        )
        return {"error": f"{changed} changed while it ran: run it again"}

    def guarded(self):
        """While it is open, SIGTERM stops the build as Ctrl-C does."""
        return _Terminable()

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            live = dict(self.live)
        for process in live.values():
            process.send_signal(signal.SIGINT)
        for name, process in live.items():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _sweep(self.book.build / "executed" / Path(name).with_suffix(""))

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


def _begun(source: Path, number: int | None) -> dict:
    """The cell that had begun when a worker ended without a word."""
    cells = notebooks.read(source).cells
    if number is None or number > len(cells):
        return {}
    return {"cell": number, "id": cells[number - 1].get("id"), "source": cells[number - 1].source}
