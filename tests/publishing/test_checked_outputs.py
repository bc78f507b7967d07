"""Checked outputs are compared with what the code prints now: a false one fails, a fresh one is taken over."""

import subprocess
import sys

import pytest

from publishing import notebooks
from publishing.__main__ import main
from publishing.contract import problems
from publishing.execute import environment

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]


def nbval(book, *names):
    env = environment(book, static=False)
    return subprocess.run([*PYTEST, *names], cwd=book.root, env=env, capture_output=True, text=True, check=False)


def output(path, text):
    notebook = notebooks.read(path)
    next(cell for cell in notebook.cells if cell.id == "c5").outputs[0].text = text
    notebooks.write(path, notebook)


def test_a_true_output_passes_and_a_false_one_fails(book):
    """Would catch outputs that are kept in the notebooks and compared by nobody."""
    output(book.notebooks[1], "43\n")
    done = nbval(book, "chapters")
    assert done.returncode == 1
    assert "chapters/two/attention.ipynb" in done.stdout
    assert "1 failed" in done.stdout
    assert "chapters/one/attention.ipynb::Cell" not in done.stdout


def test_refresh_takes_over_what_is_printed_now(book, author, capsys):
    """Would catch a refresh that keeps the old number, or one that runs with live widgets, which can wait for ever."""
    path = book.notebooks[0]
    author.edit(path, "c5", source='import os\n\nprint(value, os.environ["LLMBOOK_STATIC"])', outputs=[])
    assert "output is missing" in problems(book, path)[0]
    assert main(["--root", str(book.root), "refresh", "one/attention"]) == 0
    assert next(c for c in notebooks.read(path).cells if c.id == "c5").outputs[0].text == "42 1\n"
    assert problems(book, path) == []


@pytest.mark.parametrize("what", ["fails", "prints nothing"])
def test_refresh_changes_nothing_when_it_cannot(book, author, capsys, what):
    """Would catch a notebook left without its checked output because another cell failed."""
    path = book.notebooks[0]
    if what == "fails":
        author.edit(path, "c6", source="assert value == 41")
    else:
        author.edit(path, "c5", source="value")
    before = path.read_bytes()
    assert main(["--root", str(book.root), "refresh", "one/attention"]) == 1
    assert path.read_bytes() == before
    message = capsys.readouterr().err
    assert "cell 8 (id c6)" in message if what == "fails" else "c5 is checked but prints nothing" in message
