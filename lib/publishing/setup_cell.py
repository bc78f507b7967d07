"""How every notebook begins: the set-up cell, and the cells that are folded with it.

The set-up cell does nothing in a clone and installs the library elsewhere (Colab). A notebook of a release installs
that release, so that it works the same way years later; between releases it installs the branch it was read from. The
cell is written once, here; `tidy` puts it into the notebooks and `check` compares. The imports, the parameters and the
choice of scale follow it; they are tagged, so that a page shows one folded block and opens with its question.
"""

import ast

from nbformat import NotebookNode

CELL_ID = "setup"
TAGS = ["hide-input", "setup"]
OPENING = ["hide-input", "opening"]  # the tags of what is folded with the set-up cell

TEMPLATE = """\
# @title Set-up: nothing to do in a clone of the book; elsewhere (Colab) this installs its library
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("llmbook") is None:
    library = "llmbook @ git+{url}@{ref}#subdirectory=lib"
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", library], capture_output=True, text=True)
    if pip.returncode:
        reason = (pip.stderr.strip() or pip.stdout.strip() or "no message").splitlines()[-1]
        raise SystemExit(
            f"The book's library could not be installed: {{reason}}\\n"
            f'Check the network and run this cell again, or install it by hand: pip install "{{library}}"'
        )
    importlib.invalidate_caches()"""


def behind_setup(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The code cells right behind the set-up cell that import, hold the parameters or choose the scale."""
    start = next((k for k, cell in enumerate(cells) if cell.get("id") == CELL_ID), len(cells))
    run = []
    for cell in cells[start + 1 :]:
        if cell.cell_type != "code" or not _prepares(cell):
            break
        run.append(cell)
    return run


def _prepares(cell: NotebookNode) -> bool:
    if "parameters" in cell.metadata.get("tags", []) or "choose_scale(" in cell.source:
        return True
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:
        return False
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)


def setup_source(url: str, ref: str) -> str:
    """The source of the set-up cell that installs the library from the tag or branch `ref` of the repository `url`."""
    return TEMPLATE.format(url=url, ref=ref)
