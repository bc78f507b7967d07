"""`make reference`: record the numbers that chapters print, and how far they move with the seed.

A chapter is run as it is, once more as it is, and then with every seed in it moved. A number that differs between the
first two measures the machine (a clock, a progress bar) and is left out; the others give the band. The later runs are
kept in `_build/seeds` for a look.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from llmbook.results import reference as kept

from . import notebooks, told
from .book import Book, BookError
from .compare import short
from .execute import environment, execute, parameters_for
from .worker import CELL_TIMEOUT

LEAST = 3  # runs that must have a number for it to have a band
# Runs before the chapter's first cell. Whatever a chapter seeds, it seeds with another number.
MOVED = """
import random as _random
import numpy as _numpy
import torch as _torch

def _moved(seed):
    return seed + {shift} if isinstance(seed, int) else [_moved(s) for s in seed] if isinstance(seed, list) else seed

def _moving(function):
    return lambda seed=None, *rest, **named: function(_moved(seed), *rest, **named)

class _Generator(_torch.Generator):
    manual_seed = lambda self, seed: super().manual_seed(_moved(seed))

class _Random(_random.Random):
    def __init__(self, seed=None):
        super().__init__(_moved(seed))

_torch.manual_seed, _numpy.random.default_rng = _moving(_torch.manual_seed), _moving(_numpy.random.default_rng)
_torch.Generator, _random.Random, _random.seed = _Generator, _Random, _moving(_random.seed)
"""


def reference(
    book: Book,
    sources: Sequence[Path],
    *,
    scale: str | None = None,
    runs: int = 4,
    workers: int = 2,
    say: Callable[[str], None] = print,
) -> None:
    """Record ``sources`` from ``runs`` seeds each. Raises BookError where a chapter fails as it is.

    A cell that fails under a moved seed is said (a claim that hangs on the seed), and its numbers rest on fewer runs.
    """
    if runs < LEAST:
        raise BookError(f"RUNS={runs}: a band needs {LEAST} seeds or more.")
    for run in execute(book, sources, scale=scale, workers=workers, say=say):
        if run.failure:
            raise BookError(run.failure.report())
        first = notebooks.read(run.executed)
        parameters = parameters_for(run.source, scale)
        with ThreadPoolExecutor(max(1, workers)) as threads:
            again = [threads.submit(_again, book, first, k) for k in range(runs)]
            repeated, *others = [future.result() for future in again]
        for k, copy in enumerate((repeated, *others)):
            notebooks.write(book.build / "seeds" / short(book, run.source) / f"{k}.ipynb", copy)
        for k, other in enumerate(others, 1):
            for cell, error in _errors(other):
                say(f"  {short(book, run.source)}, seeds moved by {k}: cell {cell} fails: {error}")
        _save(book, run.source, first, repeated, others, parameters, say)


def values(first: NotebookNode, repeated: NotebookNode, others: Sequence[NotebookNode]) -> dict[str, list[float]]:
    """By name, what each seed gave; without numbers that differ in a repetition or that too few runs have."""
    base, again, moved = told.quantities(first), told.quantities(repeated), [told.quantities(o) for o in others]
    steady = [name for name, q in base.items() if name in again and repr(again[name].value) == repr(q.value)]
    found = {name: [base[name].value, *(m[name].value for m in moved if name in m)] for name in steady}
    return {name: given for name, given in found.items() if len(given) >= LEAST}


def _again(book: Book, first: NotebookNode, shift: int) -> NotebookNode:
    """The same notebook once more, to its end whatever fails, with every seed ``shift`` further."""
    from nbclient import NotebookClient

    copy = nbformat.from_dict(first)
    for cell in notebooks.code_cells(copy):
        cell.outputs, cell.execution_count = [], None
    copy.cells.insert(0, nbformat.v4.new_code_cell(MOVED.format(shift=1000 * shift).strip()))
    with tempfile.TemporaryDirectory() as empty:
        resources = {"metadata": {"path": empty}}
        client = NotebookClient(
            copy, timeout=CELL_TIMEOUT, kernel_name="python3", allow_errors=True, resources=resources
        )
        client.execute(env=environment(book))
    return copy


def _errors(notebook: NotebookNode) -> list[tuple[str, str]]:
    found = [(cell.id, out) for cell in notebooks.code_cells(notebook) for out in cell.outputs]
    return [(cell, f"{out.ename}: {out.evalue}"[:100]) for cell, out in found if out.output_type == "error"]


def _save(
    book: Book,
    source: Path,
    first: NotebookNode,
    repeated: NotebookNode,
    others: Sequence[NotebookNode],
    parameters: dict,
    say: Callable[[str], None],
) -> None:
    name, circumstances = short(book, source), told.circumstances(first)
    found = values(first, repeated, others)
    if not found:
        raise BookError(f"{name} prints no number that two of its runs share: nothing to record.")
    scale = circumstances.get("scale", "quick")
    words = f"make reference CHAPTER={name}" + "".join(f" {k.upper()}={v}" for k, v in parameters.items())
    made = kept.Reference(
        chapter=name, circumstances=circumstances, command=words, date=date.today().isoformat(), values=found
    )
    path = kept.save(made, scale=scale)
    varying = sum(min(given) < max(given) for given in found.values())
    say(f"{name}: {len(found)} numbers, {varying} of them with a band over seeds, in {path.name}")
