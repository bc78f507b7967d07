"""nbval judges an execution that was made before: one execution, and its verdict is nbval's own."""

import json
import subprocess
import sys

import nbformat
import pytest

from publishing import notebooks
from publishing.execute import environment, target

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "publishing.playback", "--color=no"]


def pytest_says(book, command):
    done = subprocess.run(command, cwd=book.root, env=environment(book), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def judge(book, tmp_path):
    """Compare chapter one with an executed copy whose outputs the test gives, by cell."""

    def compare(**outputs):
        source = book.notebooks[0]
        notebook = notebooks.read(source)
        notebook.cells.insert(
            3, nbformat.v4.new_code_cell("scale = 'full'", metadata={"tags": ["injected-parameters"]})
        )
        for cell in notebooks.code_cells(notebook):
            cell.outputs = [nbformat.from_dict(out) for out in outputs.get(cell.id, [])]
        copy = target(book, source, {})
        notebooks.write(copy, notebook)
        told = tmp_path / "executed.json"
        told.write_text(json.dumps({str(source): str(copy)}))
        command = [*PYTEST, f"--executed={told}", book.name(source)]
        done = subprocess.run(
            command, cwd=book.root, env=environment(book), capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    return compare


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def test_what_is_printed_as_committed_passes(judge):
    """Would catch cells matched by position: an injected cell stands between them, and pieces make one output."""
    code, told = judge(c2=[stream("scale: quick\n")], c5=[stream("4"), stream("2\n")])
    assert code == 0, told
    assert "passed" in told


@pytest.mark.parametrize(
    "printed",
    [[stream("43\n")], [], [stream("42\n"), stream("a warning\n", "stderr")]],
    ids=["another", "nothing", "a warning besides"],
)
def test_what_differs_fails_with_both_texts(judge, printed):
    """Would catch a comparison that passes what nbval would not."""
    code, told = judge(c5=printed)
    assert code == 1
    assert "Cell outputs differ" in told or "Missing output fields" in told or "Unexpected output fields" in told
    assert "1 failed" in told


def test_what_a_line_was_before_it_was_overwritten_does_not_count(judge):
    """Would catch a progress bar in a checked cell, which prints the same line many times over."""
    code, told = judge(c5=[stream("10 %\r"), stream("90 %\r42\n")])
    assert code == 0, told


def test_cells_that_are_not_tagged_may_print_what_they_like(judge):
    """Would catch a comparison of timings, which every reader's machine has of its own."""
    assert judge(c3=[stream("0.1 s\n")], c5=[stream("42\n")])[0] == 0


def test_an_executed_copy_of_another_notebook(judge, book, tmp_path):
    """Would catch a comparison that stops at the first cell the copy lacks, and passes."""
    two = book.notebooks[1]
    copy = target(book, two, {})
    notebooks.write(copy, nbformat.v4.new_notebook(cells=[]))
    told = tmp_path / "other.json"
    told.write_text(json.dumps({str(two): str(copy)}))
    command = [*PYTEST, f"--executed={told}", book.name(two)]
    code, told = pytest_says(book, command)
    assert code == 1
    assert "it is of another notebook" in told
