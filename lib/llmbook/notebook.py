"""Small things notebooks need: the choice of scale, errors shown on purpose, the library's own source."""

import ast
import inspect
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCALES = ("auto", "quick", "full")
ENOUGH_MEMORY = 12e9  # bytes of GPU memory that no chapter exceeds at full scale


def is_static() -> bool:
    """True while the book is being built: what a notebook shows must then stand without a kernel."""
    return os.environ.get("LLMBOOK_STATIC") == "1"


def choose_scale(scale: str = "auto", *, gpu: bool = False) -> str:
    """``"quick"`` (two CPU cores are enough) or ``"full"`` (what takes minutes); prints which, and why.

    "auto" takes "full" where that costs a reader little: in a chapter that computes on a GPU (``gpu=True``), on a
    machine that has one with enough memory. In any other chapter a GPU would be idle, and full takes its minutes on
    the CPU: there it must be asked for. Raises ValueError for any other name.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}; expected one of {', '.join(map(repr, SCALES))}")
    if scale != "auto":
        print(f"scale: {scale} (asked for)")
        return scale
    chosen, why = _what_suits(gpu)
    print(f"scale: {chosen} ({why})")
    return chosen


def _what_suits(gpu: bool) -> tuple[str, str]:
    """The scale for this machine, and the reason."""
    if not gpu:
        return "quick", "this chapter computes on the CPU; 'full' takes longer and must be asked for"
    import torch

    if not torch.cuda.is_available():
        return "quick", "no CUDA device found"
    name, n_bytes = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
    if n_bytes < ENOUGH_MEMORY:
        return "quick", f"{name} has {n_bytes / 1e9:.0f} GB, and full may need {ENOUGH_MEMORY / 1e9:.0f}"
    return "full", f"found {name}"


@contextmanager
def expect_error(*types: type[Exception]) -> Iterator[None]:
    """Run a block that must fail with one of ``types`` (default: any Exception), and print the error.

    Raises AssertionError when the block succeeds; another type of error passes through.
    """
    expected = types or (Exception,)
    try:
        yield
    except expected as error:
        print(f"{type(error).__name__}: {error}")
    else:
        names = " or ".join(t.__name__ for t in expected)
        raise AssertionError(f"expected {names}, but nothing was raised")


def show_source(*objects: Callable[..., Any] | type, docstring: bool = True) -> None:
    """Display the source of functions or classes as it stands in the library, highlighted, under its name and file.

    docstring=False leaves the documentation strings out, where the chapter has just said the same.
    Raises TypeError for an object without Python source.
    """
    from IPython.display import Markdown, display

    display(Markdown("\n\n".join(source_markdown(o, docstring=docstring) for o in objects)))


def source_markdown(obj: Callable[..., Any] | type, *, docstring: bool = True) -> str:
    """The Markdown of ``show_source`` for one object: plain Markdown, so it looks right wherever notebooks are read.

    Raises TypeError for an object without Python source.
    """
    obj = inspect.unwrap(obj)
    try:
        source = inspect.getsource(obj)
        path = Path(inspect.getsourcefile(obj) or "")
    except (TypeError, OSError):
        raise TypeError(f"{obj!r} has no Python source to show; give a function or a class of the library") from None
    source = textwrap.dedent(source).rstrip()
    if not docstring:
        source = _without_docstrings(source)
    module = obj.__module__ or ""
    where = f"lib/{module.replace('.', '/')}{'/__init__' if path.stem == '__init__' else ''}.py"
    if not module.startswith("llmbook"):
        where = path.name
    fence = "```"
    while fence in source:
        fence += "`"
    # No line number: it would change with every edit above the object, and the page would be a run behind.
    return f"**`{obj.__qualname__}`** in `{where}`\n\n{fence}python\n{source}\n{fence}"


def _without_docstrings(source: str) -> str:
    lines = source.split("\n")
    drop: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or len(node.body) < 2:
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            end = first.end_lineno or first.lineno
            drop.update(range(first.lineno - 1, end))
            if end < len(lines) and not lines[end].strip():
                drop.add(end)  # the blank line after it
    return "\n".join(line for i, line in enumerate(lines) if i not in drop)
