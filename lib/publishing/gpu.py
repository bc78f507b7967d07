"""`make gpu-test`: what is marked for a GPU. Tests carry the mark `gpu`; chapters, the tag `gpu` on their parameters.

A chapter is not told its scale: on a GPU it must choose `full` by itself, and say so. Where there is no GPU, all of it
is rehearsed on a pretended one (`rehearsal.py`).
"""

import subprocess
import sys
from pathlib import Path

from . import execute, rehearsal
from .book import Book
from .contract import computes_on_gpu
from .notebooks import read


def marked(book: Book) -> list[Path]:
    """The chapters to run at full scale."""
    return [path for path in book.notebooks if computes_on_gpu(read(path))]


def run(book: Book) -> int:
    """Run both kinds where there is a GPU, rehearse them where there is none; the exit status."""
    chapters = marked(book)
    if reason := missing():
        print(f"{reason}: everything is rehearsed on a pretended one instead", flush=True)
        return rehearsal.run(book, chapters)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-m", "gpu", "tests"]
    env = execute.environment(book, static=False)
    del env["LLMBOOK_STATIC"]
    code = subprocess.run(command, cwd=book.root, env=env).returncode
    for done in execute.execute(book, chapters, workers=1):
        problem = done.failure.report() if done.failure else rehearsal.not_full(done.executed)
        if problem:
            print(problem, flush=True)
            code = code or 1
    return code


def missing() -> str:
    """Why there is no GPU to run on; empty if there is one."""
    import torch

    return "" if torch.cuda.is_available() else f"torch {torch.__version__} finds no CUDA device here"
