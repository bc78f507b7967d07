"""Read and write notebooks in one normal form, so that a diff shows what an author changed and nothing else."""

import hashlib
import json
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .book import BookError
from .files import write_text
from .setup_cell import CELL_ID, OPENING, TAGS, behind_setup

CHECKED = "nbval-check-output"
ASSERTION = re.compile(r"^\s*assert\b(?! check\()", re.M)  # the solution of an exercise is no claim of the chapter
FOLDED = {"hide-input", "hide-cell", "remove-input"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
LONGEST_OUTPUT = 2000  # characters: a checked output is a claim, not a log


def read(path: Path) -> NotebookNode:
    """The notebook at `path`. Raises BookError where it is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["nbformat"] != 4:
            raise BookError(f"{path}: nbformat {content['nbformat']}; save it as version 4.")
        return nbformat.from_dict(_joined(content))
    except (ValueError, KeyError, TypeError) as error:
        raise BookError(f"{path} is not a notebook ({error}): restore it from git.") from None


def write(path: Path, notebook: NotebookNode) -> bool:
    """Write `notebook` atomically in nbformat's own layout; return whether the file changed."""
    return write_text(path, text(notebook))


def text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def title(notebook: NotebookNode) -> str:
    """The heading that a notebook begins with."""
    first = notebook.cells[0].source.splitlines()[0] if notebook.cells else ""
    return first.removeprefix("# ").strip() or "Untitled"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def checked_outputs(cell: NotebookNode) -> list[NotebookNode]:
    """What a checked cell printed, as the one stream nbval compares."""
    printed = "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")
    return [nbformat.v4.new_output("stream", name="stdout", text=printed)] if printed else []


def normal(notebook: NotebookNode, setup: str | None = None) -> NotebookNode:
    """A copy in the form that is committed.

    Ids for every cell, the minimal metadata (folding follows the tags: JupyterLab and Colab read the other
    keys), outputs in checked cells alone, whose execution count is 1 because nbval skips a null in silence.
    With `setup`, the set-up cell holds that source, and is inserted where there is none. The cells behind it that
    import, hold the parameters or choose the scale are folded with it.
    """
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    if setup is not None:
        _place_setup(notebook, setup)
    _fold_opening(notebook)
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.id = _identifier(cell, seen)
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip("\n").splitlines()).rstrip()
        own = sorted(set(tags(cell)))
        cell.metadata = nbformat.from_dict({"tags": own} if own else {})
        cell.pop("attachments", None)
        if cell.cell_type != "code":
            continue
        if FOLDED & set(own):
            cell.metadata.update(nbformat.from_dict({"cellView": "form", "jupyter": {"source_hidden": True}}))
        cell.outputs = checked_outputs(cell) if CHECKED in own else []
        cell.execution_count = 1 if CHECKED in own else None
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    return notebook


def _fold_opening(notebook: NotebookNode) -> None:
    folded = [id(cell) for cell in behind_setup(notebook.cells)]
    for cell in code_cells(notebook):
        if id(cell) in folded:
            cell.metadata["tags"] = [*tags(cell), *OPENING]
        elif OPENING[-1] in tags(cell):  # it has moved: shown again
            cell.metadata["tags"] = [tag for tag in tags(cell) if tag not in OPENING]


def _place_setup(notebook: NotebookNode, source: str) -> None:
    cells = notebook.cells
    old = [c for c in cells if c.cell_type == "code" and (c.get("id") == CELL_ID or "setup" in tags(c))]
    cell = old[0] if old else nbformat.v4.new_code_cell()
    if not old:
        codes = [k for k, c in enumerate(cells) if c.cell_type == "code"]
        cells.insert(codes[0] if codes else min(1, len(cells)), cell)
    cell.id, cell.source = CELL_ID, source
    cell.metadata = nbformat.from_dict({"tags": TAGS})
    notebook.cells = [c for c in cells if c is cell or c not in old]


def _identifier(cell: NotebookNode, seen: set[str]) -> str:
    """The cell's own id, or one made of its source: the same on every machine."""
    name = cell.get("id") or ""
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) or name in seen:
        name = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        while name in seen:
            name = hashlib.sha256(name.encode()).hexdigest()[:8]
    seen.add(name)
    return name


def _joined(content: dict) -> dict:
    """Multi-line strings as one string, which is how nbformat holds them in memory."""
    for cell in content["cells"]:
        cell["source"] = _join(cell["source"])
        cell.setdefault("metadata", {})
        if cell["cell_type"] == "code":
            cell.setdefault("outputs", [])
            cell.setdefault("execution_count", None)
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = _join(output["text"])
            for kind, data in output.get("data", {}).items():
                if not kind.endswith("json"):
                    output["data"][kind] = _join(data)
    return content


def _join(value: str | list[str]) -> str:
    return "".join(value) if isinstance(value, list) else value
