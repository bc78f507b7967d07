"""The execution-status page: what every run behind the site took, what it checked, and when and where it was made.

Nothing is measured here. The executed copy carries it in its metadata (see worker.py), so the page belongs to the
outputs that the site shows, and an unchanged book has an unchanged page.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbformat import NotebookNode

from . import notebooks
from .book import Book
from .worker import NOTE

SCALE = re.compile(r"^scale: (\w+)", re.M)
INTRODUCTION = """\
# Execution status

Every page of this site that computes was run from its first cell to its last, in a fresh process, before the site was
made. A cell that fails or an assertion that does not hold stops the build, and no site comes out. This is what those
runs took and what was checked in them; a page whose code, library and versions stay the same is not run again, and
keeps its row.
"""
EXPLANATION = """\
- **Time**: from the start of the process to the end of its last cell, with another chapter running beside it.
- **Memory**: the most that one process of the run held at any time.
- **Outputs as kept**: how many of the outputs that the notebook keeps in the repository the run printed again, letter
  for letter, out of all it keeps.
- **Assertions**: the `assert` statements in its code, those of the solutions among them.
- **Scale**: quick is for two CPU cores, full for one GPU.
"""
HEAD = ("Page", "Time", "Memory", "Outputs as kept", "Assertions", "Scale", "Run (UTC)")


@dataclass(frozen=True)
class _Run:
    """What one executed copy says of itself; None, – or nothing where it does not say."""

    seconds: float | None
    memory: int | None
    kept: int
    checked: int
    assertions: int
    scale: str
    ended: str
    circumstances: str

    def cells(self) -> list[str]:
        checks = [f"{self.kept} of {self.checked}", str(self.assertions)]
        return [_time(self.seconds), _size(self.memory), *checks, self.scale, self.ended]


def page(book: Book, executed: Mapping[Path, Path]) -> str:
    """The page in Markdown; a notebook of the book without an executed copy is named as not run."""
    rows, runs = [], {}
    for path in book.notebooks:
        source = notebooks.read(path)
        link = f"[{notebooks.title(source)}]({book.name(path)})"
        if path in executed:
            runs[link] = run = _run(source, notebooks.read(executed[path]))
            rows.append([link, *run.cells()])
        else:
            rows.append([link, "not run", *["–"] * (len(HEAD) - 2)])
    if len(runs) > 1:
        rows.append(["**All**", *_total(list(runs.values()))])
    parts = [INTRODUCTION, _table(rows), EXPLANATION, _circumstances(runs)]
    return "\n".join(part for part in parts if part)


def _run(source: NotebookNode, executed: NotebookNode) -> _Run:
    timed, noted = executed.metadata.get("papermill", {}), executed.metadata.get(NOTE, {})
    done = {cell.id: cell for cell in notebooks.code_cells(executed)}
    codes = notebooks.code_cells(source)
    checked = [cell for cell in codes if notebooks.CHECKED in notebooks.tags(cell)]
    printed = "\n".join(out.text for cell in done.values() for out in cell.outputs if out.output_type == "stream")
    scale = SCALE.search(printed)
    ended, versions = timed.get("end_time"), noted.get("versions", {})
    with_versions = ", ".join(f"{name} {number}" for name, number in versions.items())
    return _Run(
        seconds=timed.get("duration"),
        memory=noted.get("memory"),
        kept=sum(notebooks.checked_outputs(done[cell.id]) == cell.outputs for cell in checked),
        checked=len(checked),
        assertions=sum(len(notebooks.ASSERTION.findall(cell.source)) for cell in codes),
        scale=scale[1] if scale else "–",
        ended=datetime.fromisoformat(ended).strftime("%Y-%m-%d %H:%M") if ended else "–",
        circumstances=f"{with_versions}, on {noted['machine']}" if noted else "",
    )


def _total(runs: Sequence[_Run]) -> list[str]:
    times = [run.seconds for run in runs if run.seconds is not None]
    sizes = [run.memory for run in runs if run.memory is not None]
    kept, checked = sum(run.kept for run in runs), sum(run.checked for run in runs)
    most = f"{_size(max(sizes))} at most" if sizes else "–"
    return [_time(sum(times)), most, f"{kept} of {checked}", str(sum(run.assertions for run in runs)), "", ""]


def _circumstances(runs: Mapping[str, _Run]) -> str:
    """With which versions and on which machine: one sentence where all runs agree, a list where they do not."""
    told: dict[str, list[str]] = {}
    for link, run in runs.items():
        if run.circumstances:
            told.setdefault(run.circumstances, []).append(link)
    if len(told) == 1 and [len(runs)] == [len(links) for links in told.values()]:
        return f"All of them were run with {next(iter(told))}.\n"
    return "\n".join(f"- {', '.join(links)}: run with {what}." for what, links in told.items())


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEAD, ("---", "--:", "--:", "--:", "--:", "---", "---"), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


def _size(memory: int | None) -> str:
    if memory is None:
        return "–"
    return f"{memory / 1e6:.0f} MB" if memory < 1e9 else f"{memory / 1e9:.1f} GB"
