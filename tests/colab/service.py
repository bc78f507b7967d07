"""A notebook service that knows nothing of the book: a kernel of its own environment, in an empty folder."""

import ast
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from publishing.notebooks import code_cells, tags


class Service:
    """``python`` is its environment's; who asks for ``address`` there is given ``repository``."""

    def __init__(self, python: Path, repository: Path, *, address: str, folder: Path):
        self.python, self.folder = python, folder
        kernel = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "-"}
        (folder / "kernels/service").mkdir(parents=True)
        (folder / "kernels/service/kernel.json").write_text(json.dumps(kernel))
        self.kernels = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "LLMBOOK_STATIC", "LLMBOOK_DATA", "LLMBOOK_RECORD")
        self.environment = {name: value for name, value in os.environ.items() if name not in ours} | {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": address,
            "LLMBOOK_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    @staticmethod
    def is_setup(cell: NotebookNode) -> bool:
        return "setup" in tags(cell)

    @staticmethod
    def is_opening(cell: NotebookNode) -> bool:
        return Service.is_setup(cell) or "parameters" in tags(cell) or only_imports(cell.source)

    def run(self, source: Path | NotebookNode, *, only: Callable[[NotebookNode], bool] = lambda cell: True) -> list:
        """Run the code cells that ``only`` chooses, and after them every import of the whole notebook, wherever it
        stands; the cells with their outputs. Raises nbclient's CellExecutionError where one fails."""
        notebook = source if isinstance(source, NotebookNode) else nbformat.read(source, as_version=4)
        codes = code_cells(notebook)
        chosen = [cell for cell in codes if only(cell)]
        # pip's set-up cell is not followed by imports where nothing but it is asked for: they are another test's.
        if any(not self.is_setup(cell) for cell in chosen):
            chosen.append(nbformat.v4.new_code_cell("\n".join(dict.fromkeys(imports(codes)))))
        trimmed = nbformat.v4.new_notebook(cells=chosen, metadata=notebook.metadata)
        with tempfile.TemporaryDirectory(dir=self.folder) as empty:
            manager = AsyncKernelManager(kernel_name="service", kernel_spec_manager=self.kernels)
            client = NotebookClient(trimmed, km=manager, timeout=900, resources={"metadata": {"path": empty}})
            client.execute(env=self.environment, cwd=empty)
        return trimmed.cells


def only_imports(source: str) -> bool:
    body = ast.parse(source).body
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)


def imports(cells: list[NotebookNode]) -> list[str]:
    """Every import statement of the cells, those inside functions included, a line each."""
    nodes = (node for cell in cells for node in ast.walk(ast.parse(cell.source)))
    return [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
