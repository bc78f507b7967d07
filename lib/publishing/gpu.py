"""`make gpu-test`: what is marked for a GPU. Tests carry the mark `gpu`; chapters, the tag `gpu` on their parameters.

A chapter is not told its scale: on a GPU it must choose `full` by itself, and say so.
"""

import subprocess
import sys
from pathlib import Path

from . import execute, notebooks
from .book import Book

CHOSEN = "scale: full (found "


def marked(book: Book) -> list[Path]:
    """The chapters to run at full scale."""
    return [path for path in book.notebooks if _is_marked(path)]


def run(book: Book) -> int:
    """Run both kinds, the second only where there is a GPU; what is left out is said, with the reason."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-m", "gpu", "tests"]
    env = execute.environment(book, static=False)
    del env["LLMBOOK_STATIC"]
    code = subprocess.run(command, cwd=book.root, env=env).returncode
    chapters = marked(book)
    names = ", ".join(map(book.name, chapters)) or "no chapter"
    if reason := missing():
        print(f"SKIPPED {names}: {reason}", flush=True)
        return code
    for done in execute.execute(book, chapters, workers=1):
        problem = done.failure.report() if done.failure else _not_full(done.executed)
        if problem:
            print(problem, flush=True)
            code = code or 1
    return code


def missing() -> str:
    """Why there is no GPU to run on; empty if there is one."""
    import torch

    return "" if torch.cuda.is_available() else f"needs a CUDA device, and torch {torch.__version__} finds none here"


def _is_marked(path: Path) -> bool:
    return any(
        {"parameters", "gpu"} <= set(notebooks.tags(cell)) for cell in notebooks.code_cells(notebooks.read(path))
    )


def _not_full(executed: Path) -> str:
    printed = "".join(
        out.text for cell in notebooks.code_cells(notebooks.read(executed)) for out in cell.outputs if "text" in out
    )
    return "" if CHOSEN in printed else f"FAILED {executed.parent.name}: it ran, but not at full scale"
