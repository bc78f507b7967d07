"""`make test` executes a chapter once, has nbval judge that execution, and runs live what has not passed live."""

import json

import pytest

from publishing import live, notebooks, records
from publishing.execute import Work
from publishing.suite import _Suite


@pytest.fixture
def quiet(monkeypatch):
    for name in ("CI", "LLMBOOK_BASE"):
        monkeypatch.delenv(name, raising=False)


def chapters(book, capfd):
    """Run both stages of the chapters; what was counted, and what was said."""
    suite = _Suite(book, workers=2)
    suite.chapters()
    suite.live()
    return suite.total, capfd.readouterr().out


def test_types_are_checked_again_when_something_changed(book, capfd, quiet):
    """Would catch a wrong type that passes, one that is kept as a pass, and a check repeated for nothing."""
    library = book.root / "lib" / "llmbook"
    library.mkdir(parents=True, exist_ok=True)
    (book.root / "mypy.ini").write_text("[mypy]\nfiles = lib/llmbook\ncache_dir = _build/mypy\n", encoding="utf-8")
    counted = []
    for source in ("n: int = 'one'\n", "n: int = 'one'\n", "n: int = 1\n", "n: int = 1\n"):
        (library / "numbers_.py").write_text(source, encoding="utf-8")
        suite = _Suite(book, workers=1)
        suite.types(everything=False)
        counted.append((suite.total["failed"], suite.total["passed"]))
    assert counted == [(1, 0), (1, 0), (0, 1), (0, 0)]
    assert "nothing has changed since it passed" in capfd.readouterr().out


def forge(path, back=False):
    """Let the record say 43 (or 42 again), with a digest that fits."""
    content = json.loads(path.read_text())
    (cell,) = [cell for cell in content["cells"] if cell["id"] == "c5"]
    cell["outputs"][0]["text"] = "42\n" if back else "43\n"
    content["metadata"]["llmbook"]["record"]["digest"] = records._whole(content)
    path.write_text(json.dumps(content))


def test_one_execution_is_judged_and_taken_again(book, author, capfd, quiet):
    """Would catch a second execution for the comparison, a false output that passes, and a pass that is not kept; and
    a forged record, whose digest fits, that is believed although it contradicts what is committed."""
    one, two = book.notebooks
    author.edit(two, "c5", outputs=[notebooks.nbformat.v4.new_output("stream", text="43\n")])
    first, said = chapters(book, capfd)
    assert "[2/2]" in said
    assert "live chapters: 2" in said
    assert first["failed"] == 2  # the false output, in the execution and live
    assert "chapters/two/attention.ipynb" in said
    assert live.due(book)[0] == [two]
    author.edit(two, "c5", outputs=[notebooks.nbformat.v4.new_output("stream", text="42\n")])
    second, said = chapters(book, capfd)
    assert "2 of 2 notebooks unchanged, not run again" in said
    assert "live chapters: 1" in said
    assert second["failed"] + second["errors"] == 0
    forge(Work(book, one, {}).target)
    forged, said = chapters(book, capfd)
    assert "2 of 2 notebooks unchanged" in said
    assert forged["failed"] == 1
    assert "chapters/one/attention.ipynb" in said
    forge(Work(book, one, {}).target, back=True)
    third, said = chapters(book, capfd)
    assert "live chapters: 0" in said
    assert third["passed"] == 2 * len(notebooks.code_cells(notebooks.read(one)))
