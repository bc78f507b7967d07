"""What a program can know of how a chapter proves what it says: numbers beside booleans, seeds, checked exercises."""

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from llmbook.exercises.finding import module_of

from . import notebooks
from .inputs import parse_cell
from .notebooks import CHECKED, code_cells, tags

EXERCISES = 3
# A line that ends in a boolean, or in a list of them, behind a colon or alone; a printed mask is neither.
BOOLEAN = re.compile(r"(?:^|[:=])\s*\[?(?:True|False)(?:,\s*(?:True|False))*\]?\.?\s*$")
VERDICT = re.compile(r":\s*(?:yes|no)\.?\s*$", re.I)
DRAWS = re.compile(r"\b(?:manual_seed|default_rng|random\.Random|random\.seed|seed\s*=|torch\.rand\w*|sample)\b")
SEED = re.compile(r"\bseed(?:s|ed)?\b", re.I)


def problems(chapter: str, notebook: NotebookNode) -> Iterator[str]:
    """What the chapter leaves unproved, each with what to do."""
    yield from _booleans(notebook)
    yield from _seeds(notebook)
    yield from _exercises(chapter, notebook)


def _booleans(notebook: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code" or CHECKED not in tags(cell):
            continue
        for line in "".join(out.text for out in notebooks.checked_outputs(cell)).splitlines():
            if BOOLEAN.search(line) or (VERDICT.search(line) and not re.search(r"\d", line)):
                yield (
                    f"cell {number} (id {cell.get('id')}) prints a bare verdict, {line.strip()!r}: print the "
                    "number and its band, as in `0.43 (0.3 to 0.6): yes`."
                )


def _seeds(notebook: NotebookNode) -> Iterator[str]:
    drawing = next((cell for cell in code_cells(notebook) if DRAWS.search(cell.source)), None)
    said = any(cell.cell_type == "markdown" and SEED.search(cell.source) for cell in notebook.cells)
    if drawing is not None and not said:
        yield (
            f"cell {drawing.get('id')} draws random numbers, and no text says from how many seeds: state them, and how "
            "far the result moves with them."
        )


def _exercises(chapter: str, notebook: NotebookNode) -> Iterator[str]:
    """A folded cell asserts `check("<chapter>", n, …)` for each exercise, and an open one asks the reader."""
    asserted, asked = set(), set()
    for cell in code_cells(notebook):
        tree = parse_cell(cell.source)
        folded = "hide-cell" in tags(cell)
        for node in ast.walk(tree) if tree else ():
            inside = [node.test] if isinstance(node, ast.Assert) else [node.value] if isinstance(node, ast.Expr) else []
            for call in filter(_is_check, inside):
                named, number = (getattr(argument, "value", None) for argument in call.args[:2])
                if named != chapter:
                    yield f"cell {cell.get('id')} checks {named!r}: in this chapter it is check({chapter!r}, …)."
                elif folded and isinstance(node, ast.Assert):
                    asserted.add(number)
                elif not folded and isinstance(node, ast.Expr):
                    asked.add(number)
    for number in range(1, EXERCISES + 1):
        if number not in asserted:
            yield (
                f"exercise {number} is not checked: its folded solution ends in "
                f"`assert check({chapter!r}, {number}, answer)`, with the right answer in {module_of(chapter)}."
            )
        if number not in asked:
            yield f"exercise {number} asks nothing: an open cell offers the reader `check({chapter!r}, {number}, ...)`."


def _is_check(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "check" and len(node.args) >= 2
