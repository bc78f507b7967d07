"""A record is taken where all it depends on is the same, and from anywhere; one that is wrong is found."""

import json
import shutil

import pytest

from publishing import notebooks, records
from publishing.book import Book
from publishing.execute import Work, execute, execute_with, taken


@pytest.fixture(scope="module")
def executed(tmp_path_factory, small_book):
    """The small book with both chapters executed, and the folder of their records: made once, and copied."""
    place = tmp_path_factory.mktemp("executed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMBOOK_RECORDS", str(place / "records"))
        patch.delenv("LLMBOOK_FRESH", raising=False)
        made = small_book(place / "checkout")
        assert not any(run.failure for run in execute(made, made.notebooks))
    return place


@pytest.fixture
def work(executed, tmp_path):
    """The first chapter, executed and recorded; a record says nothing of the folder it was made in."""
    for name in ("checkout", "records"):
        shutil.copytree(executed / name, tmp_path / name)
    book = Book(tmp_path / "checkout")
    return Work(book, book.notebooks[0], {})


def lines():
    said = []
    return said, said.append


def in_shared(work):
    return records.shared() / work.name / work.target.name


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def say_43(content):
    (cell,) = [cell for cell in content["cells"] if cell["id"] == "c5"]
    cell["outputs"][0]["text"] = "43\n"


def test_another_clone_takes_it_and_runs_nothing(work, tmp_path):
    """Would catch records that name their checkout, or that stay in it."""
    clone = Book(tmp_path / "clone")
    shutil.copytree(work.book.root, clone.root, ignore=shutil.ignore_patterns("_build"))
    said, say = lines()
    (run,) = execute(clone, clone.notebooks[:1], say=say)
    assert run.seconds == 0
    assert said == ["1 of 1 notebooks unchanged, not run again"]
    assert run.executed.read_bytes() == work.target.read_bytes()


def spoil(work, fault, path):
    """Make the record at `path` wrong in one way."""
    match fault:
        case "cut":
            path.write_text(path.read_text()[:-500])
        case "changed":
            change(path, say_43)
        case "other":
            shutil.copy(Work(work.book, work.book.notebooks[1], {}).target, path)
            change(path, lambda content: content["metadata"]["llmbook"]["record"]["inputs"].update(cells="0"))
            content = json.loads(path.read_text())
            content["metadata"]["llmbook"]["record"]["digest"] = records._whole(content)
            path.write_text(json.dumps(content))


@pytest.mark.parametrize("where", ["_build", "the user's folder"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("cut", "it is cut short, or no record"),
        ("changed", "its content is not what was recorded"),
        ("other", "it is of another cells"),
    ],
)
def test_a_record_that_is_wrong_is_told_and_not_taken(work, fault, reason, where):
    """Would catch half a file from a full disk, an output edited by hand and a file under another's name."""
    spoil(work, fault, work.target if where == "_build" else in_shared(work))
    if where != "_build":
        work.target.unlink()
    said, say = lines()
    assert not taken(work, say)
    assert said == [f"the record of chapters/one/attention.ipynb is not taken: {reason}; it is run again"]


def test_what_is_not_taken_is_run_and_recorded(work):
    """Would catch a wrong record that stays in the user's folder, where the next clone finds it."""
    spoil(work, "changed", work.target)
    spoil(work, "cut", in_shared(work))
    (run,) = execute(work.book, [work.source])
    assert run.seconds > 0
    assert records.fault(work.target, work.inputs, work.book.root) == ""
    assert in_shared(work).read_bytes() == work.target.read_bytes()


def test_a_forged_record_is_found_by_a_run_that_takes_none(work, monkeypatch):
    """Would catch a weekly run that believes what it should check: the digest of this record fits its false output."""
    change(work.target, say_43)
    content = json.loads(work.target.read_text())
    content["metadata"]["llmbook"]["record"]["digest"] = records._whole(content)
    work.target.write_text(json.dumps(content))
    assert taken(work)
    monkeypatch.setenv("LLMBOOK_FRESH", "1")
    (run,) = execute(work.book, [work.source])
    assert run.seconds > 0
    assert run.wrong == ("cell c5 of the record said '43\\n', and prints '42\\n'",)
    (cell,) = [cell for cell in notebooks.read(work.target).cells if cell.id == "c5"]
    assert cell.outputs[0].text == "42\n"


def test_a_failure_leaves_no_record(book, author):
    """Would catch a failing chapter that passes the second time because its half is taken."""
    author.edit(book.notebooks[0], "c6", source="assert value == 41")
    for _ in range(2):
        (run,) = execute(book, book.notebooks[:1])
        assert run.failure is not None
    assert not list(records.shared().rglob("*.ipynb")) if records.shared().exists() else True


def test_a_run_at_length_leaves_no_record(book):
    """Would catch a chapter's recorded run, made once with other parameters, taken for the chapter."""
    run = execute_with(book, book.notebooks[0], {"scale": "quick"})
    assert run.executed.name.startswith("once-")
    assert not records.shared().exists()


def test_what_the_reading_missed_is_seen_by_the_run(book, author):
    """Would catch a record that outlives a file which its notebook opened by a name put together at run time."""
    file = book.root / "lib/llmbook/words.txt"
    file.write_text("2")
    source = 'import llmbook\n\nvalue = 21 * int(open(llmbook.__path__[0] + "/wor" + "ds.txt").read())'
    author.edit(book.notebooks[0], "c3", source=source)
    work = Work(book, book.notebooks[0], {})
    assert not any(name.startswith("file") for name in work.inputs)
    execute(book, [work.source])
    assert taken(work)
    file.write_text("2 ")
    said, say = lines()
    assert not taken(work, say)
    assert "lib/llmbook/words.txt, which it used, has changed" in said[0]


def test_an_edit_during_the_run_leaves_no_record(book, author):
    """Would catch outputs of the new library kept under the old one's key, and taken after going back."""
    library = book.root / "lib/llmbook/__init__.py"
    edit = f"open({str(library)!r}, 'a').write('FACTOR = 2.0')\nassert value == 42"
    author.edit(book.notebooks[0], "c6", source=edit)
    work = Work(book, book.notebooks[0], {})
    assert work.key
    (run,) = execute(book, [work.source])
    assert run.failure.error == "module llmbook changed while it ran: run it again"
    assert not records.shared().exists()


@pytest.mark.parametrize("value", ["none", "off", ""])
def test_the_user_can_do_without(book, monkeypatch, value):
    """Would catch a folder in the home of one who asked for none."""
    monkeypatch.setenv("LLMBOOK_RECORDS", value)
    assert records.shared() is None
    work = Work(book, book.notebooks[0], {})
    work.target.parent.mkdir(parents=True)
    work.target.write_text("{}")
    records.keep(work.name, work.target)  # nowhere: it must not fail, and not write beside the checkout
    assert not records.fetch(work.name, work.target)
    assert {path.name for path in book.root.parent.iterdir()} <= {"checkout"}


def test_a_folder_that_cannot_be_written_stops_nothing(book, monkeypatch, tmp_path):
    """Would catch a build that fails after its hour because the cache was on a full or read-only disk."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMBOOK_RECORDS", str(tmp_path / "file"))
    (run,) = execute(book, book.notebooks[:1])
    assert run.failure is None


@pytest.mark.parametrize(
    ("end", "error"), [("os._exit(1)", "DeadKernelError"), ("os.kill(os.getppid(), 9)", "ended with")]
)
def test_a_death_is_named_with_its_cell(book, author, end, error):
    """Would catch a report that says a kernel died, or a worker, and leaves the author to search the cell."""
    author.edit(book.notebooks[0], "c6", source=f"import os\n\nassert value\n{end}")
    (run,) = execute(book, book.notebooks[:1])
    assert error in run.failure.error
    assert "FAILED chapters/one/attention.ipynb, cell 8 (id c6)" in run.failure.report()
    assert end in run.failure.report()


def test_a_cell_that_is_meant_to_fail(book, author):
    """Would catch papermill's own rule, for which a `raises-exception` cell ends the run; another one still does."""
    path = book.notebooks[0]
    notebook = notebooks.read(path)
    notebook.cells.insert(-1, author.code("1 / 0", "raises-exception"))
    notebook.cells[-2].id = "meant"
    notebooks.write(path, notebook)
    (run,) = execute(book, [path])
    assert run.failure is None
    author.edit(path, "c15", source="undefined")
    (run,) = execute(book, [path])
    assert (run.failure.id, run.failure.error) == ("c15", "NameError: name 'undefined' is not defined")
