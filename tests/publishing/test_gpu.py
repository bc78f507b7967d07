"""What is marked for a GPU runs on one, at the scale it chooses itself, and is rehearsed where there is none."""

import subprocess
from types import SimpleNamespace

import pytest

from publishing import execute, gpu, notebooks, rehearsal
from publishing.book import ROOT, Book


@pytest.fixture
def no_tests(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))


def mark(book, name):
    path = book.root / name
    notebook = notebooks.read(path)
    cell = next(cell for cell in notebook.cells if "parameters" in notebooks.tags(cell))
    cell.metadata.tags = ["gpu", "parameters"]
    notebooks.write(path, notebook)
    return path


def executed(book, text):
    """A stand-in for the run of a chapter that prints ``text``."""

    def run(_book, sources, **_):
        copies = []
        for source in sources:
            notebook = notebooks.read(source)
            cell = notebooks.code_cells(notebook)[1]
            cell.outputs = [notebooks.nbformat.v4.new_output("stream", text=text)]
            copy = book.build / source.name
            notebooks.write(copy, notebook)
            copies.append(SimpleNamespace(failure=None, executed=copy))
        return copies

    return run


def test_without_a_gpu_it_is_rehearsed(book, monkeypatch, capsys):
    """Catches a command that passes because there is no GPU, and one that hides that it only rehearsed."""
    path = mark(book, "chapters/two/attention.ipynb")
    asked = []
    monkeypatch.setattr(gpu, "missing", lambda: "no GPU")
    monkeypatch.setattr(rehearsal, "run", lambda book, chapters: (asked.extend(chapters), 1)[1])
    assert gpu.run(book) == 1
    assert asked == [path]
    assert "no GPU: everything is rehearsed on a pretended one instead" in capsys.readouterr().out


@pytest.mark.parametrize(("printed", "code"), [("scale: full (found H200)\n", 0), ("scale: quick\n", 1)])
def test_a_chapter_must_choose_full_by_itself(book, monkeypatch, capsys, no_tests, printed, code):
    """Catches a chapter that ignores the GPU, and one that was told its scale."""
    path = mark(book, "chapters/two/attention.ipynb")
    monkeypatch.setattr(gpu, "missing", lambda: "")
    monkeypatch.setattr(execute, "execute", executed(book, printed))
    assert gpu.marked(book) == [path]
    assert gpu.run(book) == code
    assert ("not at full scale" in capsys.readouterr().out) == bool(code)


def test_the_book_has_something_for_a_gpu():
    """Catches a mark that was lost: `make gpu-test` would run nothing and pass."""
    assert gpu.marked(Book(ROOT))
