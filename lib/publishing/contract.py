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

from . import evidence, notebooks
from .book import Book
from .clocks import Clocks
from .inputs import parse_cell
from .notebooks import ASSERTION, CHECKED, FOLDED, LONGEST_OUTPUT, code_cells, tags
from .predictions import ASKS
from .setup_cell import CELL_ID, TAGS, behind_setup, setup_source

LONGEST_CELL, MEDIAN_CELL, LONGEST_LINE, EXERCISES = 25, 8, 96, 3
HEADING = re.compile(r"^(?:#{2,5}\s+|\*\*)\W*(?:exercise\b|(?:\d+\W+)?(?:check|vary|build)\b)", re.I | re.M)
FOREIGN_PATH = re.compile(r"(?<![\w./:~@-])/(?:home|Users|root|tmp|work|mnt|content|opt|usr|var)/[\w.]|\b[A-Z]:\\\w")
# What the first line of a chapter that computes on a GPU says of a card, and what a T4, the card that is lent to
# everyone, can be asked for.
CARD = re.compile(r"\b(T4|A100|H200) (\d+) min, ([\d.]+) GB")
LONGEST_ON_T4, LARGEST_ON_T4 = 15, 12
ON_GPU = re.compile(r"\bchoose_runtime\(\)")
RAW_HEADING = re.compile(r"^#{1,6} (?=.*(?:\$|\w_\w))(?!.*`).*", re.M)
NO_ALT = re.compile(r"!\[\s*\]\(|<img(?![^>]*\balt\s*=\s*[\"'][^\"']+)[^>]*>", re.I)


def problems(book: Book, path: Path) -> list[str]:
    """Everything that is wrong with one notebook, each with what to do; empty when it keeps the contract."""
    notebook = notebooks.read(path)
    found = [*_common(book, notebook), *_clocks(notebook)]
    if book.is_chapter(path):
        found += [*_opening(notebook), *_lengths(notebook), *_claims(notebook), *_exercises(notebook)]
        chapter = book.name(path).removesuffix(".ipynb").removeprefix("chapters/")
        found += evidence.problems(chapter, notebook)
    if not found and notebooks.text(
        notebooks.normal(notebook, setup_source(book.address[0], book.ref))
    ) != path.read_text("utf-8"):
        found = ["is not in its normal form: run `make tidy`."]
    return [f"{book.name(path)}: {problem}" for problem in found]


def _common(book: Book, notebook: NotebookNode) -> Iterator[str]:
    setups = [cell for cell in code_cells(notebook) if cell.get("id") == CELL_ID]
    if len(setups) != 1 or setups[0] is not code_cells(notebook)[0]:
        yield f"the first code cell must be the set-up cell (id {CELL_ID}): run `make tidy`."
    elif setups[0].source != setup_source(book.address[0], book.ref) or tags(setups[0]) != TAGS:
        yield "the set-up cell differs from the book's: run `make tidy`."
    for number, cell in enumerate(notebook.cells, 1):
        here = f"cell {number} (id {cell.get('id', 'missing')})"
        if path := FOREIGN_PATH.search(cell.source):
            yield f"{here} names a path of one machine, {path.group()!r}: use a relative one."
        if cell.cell_type == "markdown" and (image := NO_ALT.search(cell.source)):
            yield f"{here} has an image without alternative text, {image.group()!r}: say what it shows."
        if cell.cell_type == "markdown" and (heading := RAW_HEADING.search(cell.source)):
            yield f"{here} has a formula in a heading, {heading.group()!r}, which contents show raw: write √dₖ, 10⁶."
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


def _clocks(notebook: NotebookNode) -> Iterator[str]:
    """A busy machine must not make a chapter fail, nor print another text where the text is compared."""
    clocks = Clocks()
    for number, cell in enumerate(notebook.cells, 1):
        tree = parse_cell(cell.source) if cell.cell_type == "code" else None
        for what in clocks.read(tree, checked=CHECKED in tags(cell)) if tree else ():
            yield (
                f"cell {number} (id {cell.get('id')}) {what}, which depends on a clock: print the measurement in a "
                f"cell that is not tagged {CHECKED}, and assert nothing about it."
            )


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
    yield from _gpu(notebook)
    parameters = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(parameters) != 1 or 'scale = "auto"' not in parameters[0].source:
        yield 'needs exactly one cell tagged `parameters`, with `scale = "auto"`.'
    folded = behind_setup(cells)
    for number, cell in enumerate(cells, 1):
        plumbing = cell.cell_type == "code" and ("parameters" in tags(cell) or "choose_scale(" in cell.source)
        if plumbing and cell not in folded:
            yield (
                f"cell {number} (id {cell.get('id', 'missing')}) sets the scale and is not folded with the set-up "
                "cell: put it right behind that, with nothing but imports between."
            )


def _gpu(notebook: NotebookNode) -> Iterator[str]:
    """A chapter that computes on a GPU says so to `make gpu-test`, its reader and `choose_scale`; no other does."""
    sources = [cell.source for cell in code_cells(notebook)]
    computes, says = computes_on_gpu(notebook), stated(notebook)
    if computes != any(map(ON_GPU.search, sources)):
        yield (
            "the tag `gpu` on the parameters and `choose_runtime()` in the code go together: a chapter has both, or "
            'computes on the CPU and says `choose_runtime("cpu")`.'
        )
    if computes != any("choose_scale(scale, gpu=True)" in source for source in sources):
        yield "`choose_scale(scale, gpu=True)` belongs in a chapter whose parameters are tagged `gpu`, and in no other."
    if computes != bool(says) or (computes and not {"T4", "A100"} <= set(says)):
        yield (
            "the line with time and memory names T4 and A100 in a chapter tagged `gpu`, and in no other: "
            "`*Quick: … Full, on a GPU: T4 9 min, 4 GB; A100 3 min, 4 GB (estimated).*`"
        )
    minutes, gigabytes = says.get("T4", (0, 0))
    if minutes > LONGEST_ON_T4 or gigabytes > LARGEST_ON_T4:
        yield (
            f"full scale takes {minutes:g} min and {gigabytes:g} GB on a T4; the limits are {LONGEST_ON_T4} min and "
            f"{LARGEST_ON_T4} GB: let the chapter do less there."
        )


def computes_on_gpu(notebook: NotebookNode) -> bool:
    """Whether the parameters carry the tag `gpu`."""
    return any({"parameters", "gpu"} <= set(tags(cell)) for cell in code_cells(notebook))


def stated(notebook: NotebookNode) -> dict[str, tuple[float, float]]:
    """Minutes and gigabytes that the Markdown before the first code gives for each card at full scale."""
    first_code = next((k for k, cell in enumerate(notebook.cells) if cell.cell_type == "code"), len(notebook.cells))
    text = "\n".join(cell.source for cell in notebook.cells[:first_code])
    return {card: (float(minutes), float(gigabytes)) for card, minutes, gigabytes in CARD.findall(text)}


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
