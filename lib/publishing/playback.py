"""nbval's comparison of outputs, asked about an execution that papermill has made already.

nbval starts a kernel, runs each cell in it and compares. Here its kernel is a stand-in that plays back the outputs of
the executed copy, so that what is compared, how, and what the report says are nbval's own:

    python -m pytest -p publishing.playback --executed MAP.json chapters/…

MAP.json tells the executed copy of each notebook.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import nbval.plugin
import pytest
from nbformat import NotebookNode

from . import notebooks


class Playback:
    """What nbval asks of a kernel, answered from the outputs of `executed`, cell by cell of `source`."""

    def __init__(self, source: NotebookNode, executed: NotebookNode):
        done = {cell.get("id"): cell for cell in notebooks.code_cells(executed)}
        self.cells = iter([done.get(cell.get("id")) for cell in notebooks.code_cells(source)])
        self.messages: Iterator[dict] = iter(())
        self.number = 0

    def execute_cell_input(self, source: str, allow_stdin: bool | None = None) -> str:
        cell = next(self.cells)
        if cell is None:
            raise RuntimeError("the executed copy has no such cell: it is of another notebook")
        self.number += 1
        self.messages = iter([*map(_content, cell.outputs), ("status", {"execution_state": "idle"})])
        return str(self.number)

    def get_message(self, stream: str, timeout: float | None = None) -> dict:
        kind, content = next(self.messages)
        return {"msg_type": kind, "content": content, "parent_header": {"msg_id": str(self.number)}}

    def await_reply(self, message: str, timeout: float | None = None) -> None:
        """Everything has been said already."""

    await_idle = await_reply

    def is_alive(self) -> bool:
        return True

    def stop(self) -> None:
        """Nothing to stop."""


def _content(output: NotebookNode) -> tuple[str, dict]:
    told = {name: value for name, value in output.items() if name != "output_type"}
    return output.output_type, nbval.plugin.nbformat.from_dict(told)


class Executed(nbval.plugin.IPyNbFile):
    """A notebook of nbval, its tagged cells compared with an execution that is there."""

    def setup(self) -> None:
        self.compare_outputs = False
        copy = json.loads(Path(self.config.option.executed).read_text(encoding="utf-8"))[str(self.path)]
        self.kernel = Playback(self.nb, notebooks.read(Path(copy)))
        self.setup_sanitize_files()

    def collect(self) -> Iterator[pytest.Item]:
        self.compare_outputs = False  # as with --nbval-lax: the cells that are tagged
        yield from super().collect()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--executed", help="a JSON file: the executed copy of each notebook")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Executed | None:
    if file_path.suffix == ".ipynb" and parent.config.option.executed:
        return Executed.from_parent(parent, path=file_path)
    return None


def wrong(before: NotebookNode, now: NotebookNode) -> list[str]:
    """Where a record says of a checked cell what a new run does not print."""
    fresh = {cell.get("id"): cell for cell in notebooks.code_cells(now)}
    found = []
    for cell in notebooks.code_cells(before):
        if notebooks.CHECKED in notebooks.tags(cell):
            said, says = (_printed(one) for one in (cell, fresh.get(cell.get("id"))))
            if said != says:
                found.append(f"cell {cell.get('id')} of the record said {said!r}, and prints {says!r}")
    return found


def _printed(cell: NotebookNode | None) -> str:
    outputs = nbval.plugin.coalesce_streams(notebooks.checked_outputs(cell) if cell else [])
    return "".join(output.text for output in outputs)
