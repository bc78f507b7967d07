"""What every notebook of the book promises its reader, checked from the source alone.

Lengths count every line of a cell. Folded cells (set-up, plots and solutions: `hide-input`, `hide-cell`,
`remove-input`) and the parameters cell obey the longest length but not the median: the reader does not meet them on
the way.
"""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from . import notebooks
from .book import Book
from .notebooks import ASSERTION, CHECKED, FOLDED, LONGEST_OUTPUT, code_cells, tags
from .predictions import ASKS
from .setup_cell import CELL_ID, TAGS, setup_source

LONGEST_CELL, MEDIAN_CELL, LONGEST_LINE, EXERCISES = 25, 8, 96, 3
HEADING = re.compile(r"^(?:#{2,5}\s+|\*\*)\W*(?:exercise\b|(?:\d+\W+)?(?:check|vary|build)\b)", re.I | re.M)
FOREIGN_PATH = re.compile(r"(?<![\w./:~@-])/(?:home|Users|root|tmp|work|mnt|content|opt|usr|var)/[\w.]|\b[A-Z]:\\\w")
NO_ALT = re.compile(r"!\[\s*\]\(|<img(?![^>]*\balt\s*=\s*[\"'][^\"']+)[^>]*>", re.I)


def problems(book: Book, path: Path) -> list[str]:
    """Everything that is wrong with one notebook, each with what to do; empty when it keeps the contract."""
    notebook = notebooks.read(path)
    found = [*_common(book, notebook)]
    if book.is_chapter(path):
        found += [*_opening(notebook), *_lengths(notebook), *_claims(notebook), *_exercises(notebook)]
    if not found and notebooks.text(notebooks.normal(notebook, setup_source(*book.address))) != path.read_text("utf-8"):
        found = ["is not in its normal form: run `make tidy`."]
    return [f"{book.name(path)}: {problem}" for problem in found]


def _common(book: Book, notebook: NotebookNode) -> Iterator[str]:
    setups = [cell for cell in code_cells(notebook) if cell.get("id") == CELL_ID]
    if len(setups) != 1 or setups[0] is not code_cells(notebook)[0]:
        yield f"the first code cell must be the set-up cell (id {CELL_ID}): run `make tidy`."
    elif setups[0].source != setup_source(*book.address) or tags(setups[0]) != TAGS:
        yield "the set-up cell differs from the book's: run `make tidy`."
    for number, cell in enumerate(notebook.cells, 1):
        here = f"cell {number} (id {cell.get('id', 'missing')})"
        if path := FOREIGN_PATH.search(cell.source):
            yield f"{here} names a path of one machine, {path.group()!r}: use a relative one."
        if cell.cell_type == "markdown" and (image := NO_ALT.search(cell.source)):
            yield f"{here} has an image without alternative text, {image.group()!r}: say what it shows."
        if cell.cell_type == "code":
            yield from _outputs(here, cell)


def _outputs(here: str, cell: NotebookNode) -> Iterator[str]:
    if CHECKED not in tags(cell):
        if cell.outputs or cell.execution_count is not None:
            yield f"{here} carries an output, and only cells tagged {CHECKED} may: run `make tidy`."
        return
    printed = "".join(out.text for out in notebooks.checked_outputs(cell))
    if not printed:
        yield f"{here} is tagged {CHECKED} but its output is missing: run `make refresh CHAPTER=…`."
    elif cell.execution_count != 1:
        yield f"{here} is tagged {CHECKED} but has no execution count, so it is not compared: run `make tidy`."
    elif len(printed) > LONGEST_OUTPUT:
        yield f"{here} prints {len(printed)} characters; a checked output has at most {LONGEST_OUTPUT}."


def _opening(notebook: NotebookNode) -> Iterator[str]:
    cells = notebook.cells
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        yield "the first cell must be the title: Markdown that begins with `# `."
    first_code = next((k for k, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    lines = [line for cell in cells[:first_code] for line in cell.source.splitlines()]
    opening = "\n".join(line for line in lines if re.search(r"quick|full", line, re.I))
    needed = [r"\bquick\b", r"\bfull\b", r"\d\s*(?:s|sec\w*|min\w*|h|hours?)\b", r"\d\s*[MG]i?B\b"]
    if not all(re.search(pattern, opening, re.I) for pattern in needed):
        yield (
            "no line with time and memory before the set-up cell: write for example "
            "`*Quick: 30 s, 1 GB, 2 CPU cores. Full: 12 min, 6 GB, one GPU.*`"
        )
    parameters = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(parameters) != 1 or 'scale = "auto"' not in parameters[0].source:
        yield 'needs exactly one cell tagged `parameters`, with `scale = "auto"`.'


def _lengths(notebook: NotebookNode) -> Iterator[str]:
    read = []
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        length = len(cell.source.splitlines())
        if length > LONGEST_CELL:
            yield f"cell {number} (id {cell.id}) has {length} lines; the limit is {LONGEST_CELL}: split it."
        if not (FOLDED | {"parameters"}) & set(tags(cell)):
            read.append(length)
            if (width := max(map(len, cell.source.splitlines()), default=0)) > LONGEST_LINE:
                yield f"cell {number} (id {cell.id}) has a line of {width} characters; the page shows {LONGEST_LINE}."
    if read and statistics.median(read) > MEDIAN_CELL:
        yield f"code cells have a median of {statistics.median(read):g} lines; the limit is {MEDIAN_CELL}."


def _claims(notebook: NotebookNode) -> Iterator[str]:
    codes = code_cells(notebook)
    if not any(CHECKED in tags(cell) for cell in codes):
        yield f"no checked result: tag a cell that prints one with {CHECKED}."
    if not any(ASSERTION.search(cell.source) for cell in codes):
        yield "no `assert` on the claim of the chapter."
    if not any(ASKS.search(cell.source) for cell in codes):
        yield "asks for no prediction: open a figure with `predict(question, figure, answer=…)` of llmbook.figures."


def _exercises(notebook: NotebookNode) -> Iterator[str]:
    """Each exercise runs from its heading to the next; a folded code cell on the way is its executed solution."""
    solved: list[bool] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            solved += [False] * len(HEADING.findall(cell.source))
        elif solved and {"hide-cell", "hide-input"} & set(tags(cell)):
            solved[-1] = True
    if len(solved) < EXERCISES:
        yield f"{len(solved)} exercises; a chapter has {EXERCISES}: head each with `### Exercise 1: …`."
    for number, done in enumerate(solved, 1):
        if not done:
            yield f"exercise {number} has no solution: a code cell tagged `hide-cell` after it."
