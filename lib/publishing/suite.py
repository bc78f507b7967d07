"""`make test`: style, contract, types, tests, and the chapters: each executed once, its outputs compared by nbval,
and live where a change or its turn asks for it. Every stage runs; at the end one line says how long each took, and
the last counts what passed."""

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from . import live
from .book import Book
from .execute import environment, execute
from .files import digest, write_text
from .unchanged import KnownTests

PYTEST = [sys.executable, "-m", "pytest", "-qq", "-p", "no:cacheprovider"]


def run(book: Book, workers: int = 2, *, everything: bool = False) -> int:
    """Run every stage and return the exit status; `everything` (or CI) repeats tests that passed as they are, too."""
    suite = _Suite(book, workers)
    suite.style()
    suite.types(everything=everything or bool(os.environ.get("CI")))
    suite.tests(everything=everything or bool(os.environ.get("CI")))
    suite.chapters()
    suite.live()
    return suite.end()


class _Suite:
    """The stages of one run, what they counted and how long they took."""

    def __init__(self, book: Book, workers: int):
        self.book, self.workers = book, workers
        self.start, self.total, self.seconds = time.monotonic(), Counter(), {}
        self.reports = book.build / "test"
        self.reports.mkdir(parents=True, exist_ok=True)

    def style(self) -> None:
        ruff = [sys.executable, "-m", "ruff"]
        self._simple("ruff check", [*ruff, "check", "--quiet", "."])
        self._simple("ruff format", [*ruff, "format", "--quiet", "--check", "."])
        self._simple("publishing check", [sys.executable, "-m", "publishing", "check"])

    def types(self, *, everything: bool) -> None:
        """mypy on the library, where a Python file of it or what mypy is told has changed since it passed."""
        root, stamp = self.book.root, self.book.build / "mypy" / "passed"
        asked = digest(root, [*(root / "lib" / "llmbook").rglob("*.py"), root / "mypy.ini", root / "requirements.txt"])
        if not everything and stamp.is_file() and stamp.read_text(encoding="utf-8") == asked:
            print("— mypy: nothing has changed since it passed", flush=True)
            return
        failed = self.total["failed"]
        self._simple("mypy", [sys.executable, "-m", "mypy", "--no-error-summary"])
        if self.total["failed"] == failed:
            write_text(stamp, asked)

    def tests(self, *, everything: bool) -> None:
        """The tests but those of the built site, which have a command of their own, `make test-site`."""
        there = KnownTests(self.book)
        before = time.monotonic()
        changed = there.changed()
        files = [path for path in there.files if everything or path in changed]
        self.seconds["looking for changes"] = time.monotonic() - before
        if unchanged := len(there.files) - len(files):
            print(
                f"— tests: {unchanged} files unchanged since they passed, not run again (ALL=1 runs them)", flush=True
            )
        if not files:
            return
        names = ["tests"] if everything else [self.book.name(path) for path in files]
        command = [*PYTEST, "-n", str(self.workers), "--dist", "loadgroup", "--ignore=tests/site", *names]
        env = environment(self.book, static=False)
        del env["LLMBOOK_STATIC"]  # the suite decides about its own mode
        good = self._pytest("tests", command, env)
        there.keep([path for path in files if _dotted(self.book, path) in good], files)

    def chapters(self) -> None:
        """Execute what has no record, then let nbval compare what each printed with what is committed."""
        print("— chapters, executed", flush=True)
        before = time.monotonic()
        runs = execute(self.book, self.book.notebooks, workers=self.workers, say=_say)
        self.seconds["executions"] = time.monotonic() - before
        for run in runs:
            if run.failure:
                print(run.failure.report(), flush=True)
                self.total["failed"] += 1
            for line in run.wrong:
                print(f"FAILED {self.book.name(run.source)}: {line}", flush=True)
                self.total["failed"] += 1
        copies = {str(run.source): str(run.executed) for run in runs if not run.failure}
        if not copies:
            return
        told = self.reports / "executed.json"
        told.write_text(json.dumps(copies), encoding="utf-8")
        command = [*PYTEST, "-p", "publishing.playback", f"--executed={told}", *map(self._name, copies)]
        failed = self.total["failed"]
        self._pytest("checked outputs", command, environment(self.book))
        if self.total["failed"] > failed:
            print("Where a checked output differs and the new one is right: `make refresh CHAPTER=…`.")

    def live(self) -> None:
        """The same code in a kernel with live widgets."""
        before = time.monotonic()
        sources, why = live.due(self.book)
        self.seconds["looking for changes"] = self.seconds.get("looking for changes", 0) + time.monotonic() - before
        print(f"— live chapters: {len(sources)} ({why})", flush=True)
        if not sources:
            return
        nbval = ["--nbval-lax", "--nbval-current-env", "-n", str(self.workers), "--dist", "loadfile"]
        names = map(self.book.name, sources)
        good = self._pytest("live", [*PYTEST, *nbval, *names], environment(self.book, static=False))
        live.keep(self.book, [path for path in sources if _dotted(self.book, path) in good])

    def end(self) -> int:
        counts = ", ".join(
            f"{self.total[what]} {what}" for what in ("failed", "passed", "skipped", "errors") if self.total[what]
        )
        bad = self.total["failed"] + self.total["errors"]
        print("seconds:", ", ".join(f"{name} {taken:.0f}" for name, taken in self.seconds.items()))
        print(f" {counts} in {time.monotonic() - self.start:.2f}s ".center(80, "="), flush=True)
        return 1 if bad else 0

    def _simple(self, name: str, command: list[str]) -> None:
        code = self._stage(name, command, environment(self.book, static=False))
        self.total["failed" if code else "passed"] += 1

    def _stage(self, name: str, command: list[str], env: dict[str, str]) -> int:
        """Run one stage, note how long it took, and return its exit status."""
        print(f"— {name}", flush=True)
        start = time.monotonic()
        code = subprocess.run(command, cwd=self.book.root, env=env).returncode
        self.seconds[name] = time.monotonic() - start
        if code:
            print(f"FAILED {name} (exit {code})", flush=True)
        return code

    def _pytest(self, name: str, command: list[str], env: dict[str, str]) -> set[str]:
        """Run pytest, count what its report says (a crash without one is an error), and return what passed wholly."""
        report = self.reports / f"{name.replace(' ', '-')}.xml"
        report.unlink(missing_ok=True)
        code = self._stage(name, [*command, f"--junitxml={report}"], env)
        counted, good = Counter(), set()
        if report.is_file():
            root = ElementTree.parse(report).getroot()
            for suite in root.iter("testsuite"):
                failed, errors, skipped = (int(suite.get(k, 0)) for k in ("failures", "errors", "skipped"))
                counted.update(failed=failed, errors=errors, skipped=skipped)
                counted["passed"] += int(suite.get("tests", 0)) - failed - errors - skipped
            good = _passed(root.iter("testcase"))
        if code and not counted["failed"] + counted["errors"]:
            counted["errors"] += 1
            good = set()
        self.total += counted
        return good

    def _name(self, path: str) -> str:
        return self.book.name(Path(path))


def _passed(cases: Iterable[ElementTree.Element]) -> set[str]:
    """The files of a report in which nothing failed, as pytest writes them: `tests.model.test_attention`."""
    seen: dict[str, bool] = {}
    for case in cases:
        name = case.get("classname", "") or case.get("name", "")
        parts = name.split(".")
        # A class inside a test file is not part of the file's name.
        last = next((k for k, part in enumerate(parts) if part.startswith("test_") or part == "ipynb"), len(parts))
        file = ".".join(parts[: last + 1])
        bad = case.find("failure") is not None or case.find("error") is not None
        seen[file] = seen.get(file, True) and not bad
    return {name for name, good in seen.items() if good}


def _dotted(book: Book, path: Path) -> str:
    return book.name(path).removesuffix(".py").replace("/", ".")


def _say(line: str) -> None:
    print(line, flush=True)
