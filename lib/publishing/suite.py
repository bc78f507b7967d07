"""`make test`: style, contract, tests, checked outputs; every stage runs, and one line at the end counts them all."""

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
    start, total = time.monotonic(), Counter()
    reports = book.build / "test"
    reports.mkdir(parents=True, exist_ok=True)
    stages = {
        "ruff check": [*RUFF, "check", "--quiet", "."],
        "ruff format": [*RUFF, "format", "--quiet", "--check", "."],
        "publishing check": [sys.executable, "-m", "publishing", "check"],
    }
    for name, command in stages.items():
        code = _stage(book, name, command)
        total["failed" if code else "passed"] += 1
    shared = ["-m", "pytest", "-qq", "-n", str(workers), "-p", "no:cacheprovider"]
    # The tests of the built site have a command of their own, `make test-site`.
    tests = [sys.executable, *shared, "--dist", "loadgroup", "--ignore=tests/site", "tests"]
    total += _pytest(book, "tests", tests, reports / "tests.xml")
    notebooks = [book.name(path) for path in book.notebooks]
    nbval = ["--nbval-lax", "--nbval-current-env", "--dist", "loadfile"]
    checked = _pytest(book, "notebooks", [sys.executable, *shared, *nbval, *notebooks], reports / "notebooks.xml")
    if checked["failed"]:
        print("Where a checked output differs and the new one is right: `make refresh CHAPTER=…`.")
    total += checked
    counts = ", ".join(f"{total[what]} {what}" for what in ("failed", "passed", "skipped", "errors") if total[what])
    bad = total["failed"] + total["errors"]
    seconds = time.monotonic() - start
    print(f" {counts} in {seconds:.2f}s ".center(80, "="), flush=True)
    return 1 if bad else 0


def _stage(book: Book, name: str, command: list[str]) -> int:
    print(f"— {name}", flush=True)
    env = environment(book, static=False)
    # The suite decides about its own mode; only the kernels of nbval are told to be live.
    if name == "tests":
        del env["LLMBOOK_STATIC"]
    code = subprocess.run(command, cwd=book.root, env=env).returncode
    if code:
        print(f"FAILED {name} (exit {code})", flush=True)
    return code


def _pytest(book: Book, name: str, command: list[str], report: Path) -> Counter:
    """Run pytest, and count what it says in its report; a crash without one is an error."""
    report.unlink(missing_ok=True)
    code = _stage(book, name, [*command, f"--junitxml={report}"])
    total: Counter = Counter()
    if report.is_file():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            failed, errors, skipped = (int(suite.get(k, 0)) for k in ("failures", "errors", "skipped"))
            total.update(failed=failed, errors=errors, skipped=skipped)
            total["passed"] += int(suite.get("tests", 0)) - failed - errors - skipped
    if code and not total["failed"] + total["errors"]:
        total["errors"] += 1
    return total
