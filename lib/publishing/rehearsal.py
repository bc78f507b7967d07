"""`make gpu-test` without a GPU: the same on a pretended one, which computes on the CPU and refuses what CUDA refuses.

The tests that are marked for a GPU, on two kinds of card; every notebook at quick scale; the chapters that compute on a
GPU once more on the other card, in bfloat16, and at full scale, their training cut to a few steps. The operations of
that whole run are counted on the way: what a chapter's first line says of a card is held against them. In CI each of
these takes turns, and full scale is left out.

What the pretended GPU sees and cannot see stands in `tests/gpu/pretended/pretended_gpu/__init__.py`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import execute, notebooks
from .book import ROOT, Book
from .contract import stated
from .rotation import share, today

PRETENDED = ROOT / "tests" / "gpu" / "pretended"
CARDS = ("t4", "a100")
AT_A_TURN = 3  # notebooks that CI rehearses
STEPS = 2  # of every training run at full scale
CHOSEN = "scale: full (found "


def run(book: Book, chapters: Sequence[Path]) -> int:
    """Rehearse the tests, every notebook, and ``chapters`` at full scale; the exit status."""
    if reason := unavailable():
        print(f"SKIPPED the rehearsal on a pretended GPU: {reason}", flush=True)
        return 0
    in_ci = bool(os.environ.get("CI"))
    cards = share(CARDS, 1, today()) if in_ci else CARDS
    names = share(book.notebooks, AT_A_TURN, today()) if in_ci else book.notebooks
    bad = sum(run_tests(book, card) for card in cards)
    problems = quick(book, names, cards[0])
    for card in cards[1:]:  # the other 16 bits, for what computes in them
        problems += quick(book, chapters, card)
    if not in_ci:
        problems += [problem for chapter in chapters for problem in full(book, chapter)]
    if problems:
        print(*problems, sep="\n", flush=True)
    what = f"rehearsed on a pretended GPU ({', '.join(cards)})"
    print(f"{what}: no real one was used, no time was measured", flush=True)
    return 1 if bad or problems else 0


def unavailable() -> str:
    """Why nothing can be pretended here (no compiler, another torch); empty if it can."""
    with pretending("t4"):
        done = subprocess.run([sys.executable, "-m", "pretended_gpu"], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()


@contextmanager
def pretending(card: str, **more: str) -> Iterator[None]:
    """Processes that are started meanwhile have this card; ``more`` are other variables for them."""
    path = os.pathsep.join(filter(None, [str(PRETENDED), os.environ.get("PYTHONPATH")]))
    before = dict(os.environ)
    os.environ.update({"PRETENDED_GPU": card, "PYTHONPATH": path, **more})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_tests(book: Book, card: str) -> int:
    """The tests marked for a GPU, on this card; the exit status."""
    print(f"— tests/gpu on a pretended {card}", flush=True)
    with pretending(card):
        env = execute.environment(book, static=False)
        del env["LLMBOOK_STATIC"]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-m", "gpu", "tests/gpu"]
        return subprocess.run([*command, "-W", "ignore"], cwd=book.root, env=env).returncode


def quick(book: Book, sources: Sequence[Path], card: str) -> list[str]:
    """These notebooks at quick scale on this card, two at a time; of those that fail, the cell and the error."""

    def rehearse(source: Path) -> str:
        run = execute.execute_with(book, source, execute.parameters_for(source, "quick"))
        if run.failure:
            return run.failure.report()
        run.executed.unlink()
        return ""

    print(f"— {len(sources)} notebooks at quick scale on a pretended {card}", flush=True)
    with pretending(card), ThreadPoolExecutor(2) as threads:
        return [problem for problem in threads.map(rehearse, sources) if problem]


def full(book: Book, source: Path) -> list[str]:
    """One chapter at the scale it chooses on a T4, which must be full, its training cut short; what is wrong.

    A model that was trained for three steps has learned nothing, so assertions are switched off.
    """
    name = book.name(source)
    with tempfile.TemporaryDirectory() as folder:
        cut = {"PRETENDED_GPU_STEPS": str(STEPS), "PRETENDED_GPU_REPORT": folder, "PYTHONOPTIMIZE": "1"}
        with pretending("t4", **cut):
            run = execute.execute_with(book, source, {})
        if run.failure and run.failure.error.startswith("SourceError"):  # offline, without the text of full scale
            print(f"SKIPPED {name} at full scale: {run.failure.error}", flush=True)
            return []
        if run.failure:
            return [run.failure.report()]
        problem = not_full(run.executed)
        run.executed.unlink()
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*.json")]
    counted = max(reports, key=lambda report: report["operators"])
    print(f"{name}, full scale, estimated from {counted['operators'] / 1e6:.1f} million operators:", flush=True)
    for card, seconds in counted["seconds"].items():
        print(f"  {card.upper():5} {seconds / 60:5.1f} min, {counted['memory'] / 1e9:.1f} GB", flush=True)
    return [*filter(None, [problem]), *wrong_estimates(name, stated(notebooks.read(source)), counted)]


def not_full(executed: Path) -> str:
    """What to say of a chapter that did not choose full scale; empty if it did."""
    printed = "".join(
        out.text for cell in notebooks.code_cells(notebooks.read(executed)) for out in cell.outputs if "text" in out
    )
    return "" if CHOSEN in printed else f"FAILED {executed.parent.name}: it ran, but not at full scale"


def wrong_estimates(name: str, says: dict[str, tuple[float, float]], counted: dict) -> Iterator[str]:
    """Where the first line promises less than was counted, or far more."""
    for card, (minutes, gigabytes) in says.items():
        for what, said, found in (
            ("min", minutes, counted["seconds"][card.lower()] / 60),
            ("GB", gigabytes, counted["memory"] / 1e9),
        ):
            if not found <= said <= max(2 * found, 1):
                yield f"FAILED {name}: its first line says {said:g} {what} on a {card}, counted are {found:.1f}"
