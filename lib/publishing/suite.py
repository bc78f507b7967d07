"""`make test`: style, contract, tests, checked outputs. Every stage runs; at the end one line says how long each took,
and the last counts what passed."""

import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from .book import Book
from .execute import environment

RUFF = [sys.executable, "-m", "ruff"]


def run(book: Book, workers: int = 2) -> int:
    """Run every stage and return the exit status."""
    start, total, seconds = time.monotonic(), Counter(), {}
    reports = book.build / "test"
    reports.mkdir(parents=True, exist_ok=True)
    stages = {
        "ruff check": [*RUFF, "check", "--quiet", "."],
        "ruff format": [*RUFF, "format", "--quiet", "--check", "."],
        "publishing check": [sys.executable, "-m", "publishing", "check"],
    }
    for name, command in stages.items():
        code = _stage(book, name, command, seconds)
        total["failed" if code else "passed"] += 1
    shared = ["-m", "pytest", "-qq", "-n", str(workers), "-p", "no:cacheprovider"]
    # The tests of the built site have a command of their own, `make test-site`.
    tests = [sys.executable, *shared, "--dist", "loadgroup", "--ignore=tests/site", "tests"]
    total += _pytest(book, "tests", tests, reports / "tests.xml", seconds)
    notebooks = [book.name(path) for path in book.notebooks]
    nbval = ["--nbval-lax", "--nbval-current-env", "--dist", "loadfile"]
    command = [sys.executable, *shared, *nbval, *notebooks]
    checked = _pytest(book, "notebooks", command, reports / "notebooks.xml", seconds)
    if checked["failed"]:
        print("Where a checked output differs and the new one is right: `make refresh CHAPTER=…`.")
    total += checked
    counts = ", ".join(f"{total[what]} {what}" for what in ("failed", "passed", "skipped", "errors") if total[what])
    bad = total["failed"] + total["errors"]
    print("seconds:", ", ".join(f"{name} {taken:.0f}" for name, taken in seconds.items()))
    print(f" {counts} in {time.monotonic() - start:.2f}s ".center(80, "="), flush=True)
    return 1 if bad else 0


def _stage(book: Book, name: str, command: list[str], seconds: dict[str, float]) -> int:
    """Run one stage, note in ``seconds`` how long it took, and return its exit status."""
    print(f"— {name}", flush=True)
    start = time.monotonic()
    env = environment(book, static=False)
    # The suite decides about its own mode; only the kernels of nbval are told to be live.
    if name == "tests":
        del env["LLMBOOK_STATIC"]
    code = subprocess.run(command, cwd=book.root, env=env).returncode
    seconds[name] = time.monotonic() - start
    if code:
        print(f"FAILED {name} (exit {code})", flush=True)
    return code


def _pytest(book: Book, name: str, command: list[str], report: Path, seconds: dict[str, float]) -> Counter:
    """Run pytest, and count what it says in its report; a crash without one is an error."""
    report.unlink(missing_ok=True)
    code = _stage(book, name, [*command, f"--junitxml={report}"], seconds)
    total: Counter = Counter()
    if report.is_file():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            failed, errors, skipped = (int(suite.get(k, 0)) for k in ("failures", "errors", "skipped"))
            total.update(failed=failed, errors=errors, skipped=skipped)
            total["passed"] += int(suite.get("tests", 0)) - failed - errors - skipped
    if code and not total["failed"] + total["errors"]:
        total["errors"] += 1
    return total
