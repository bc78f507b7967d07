"""A build runs what changed and nothing else, tells what failed, and loses nothing when it is interrupted."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from publishing import notebooks
from publishing.__main__ import main
from publishing.book import BookError
from publishing.build import build
from publishing.execute import Run, environment, execute, key, parameters_for, target
from publishing.merge import assemble, merge


@pytest.fixture
def pretend(book):
    """Executed copies without a kernel: outputs that say which chapter and cell they come from."""
    executed = {}
    for source in book.notebooks:
        notebook = notebooks.read(source)
        for cell in notebooks.code_cells(notebook):
            cell.outputs = [nbformat.v4.new_output("stream", text=f"{book.name(source)} {cell.id}\n")]
        executed[source] = target(book, source, {})
        notebooks.write(executed[source], notebook)
    return executed


def test_prose_runs_nothing_and_code_runs_again(book, author):
    """Would catch a cache that reruns an hour of training for a comma, or keeps a result its code no longer gives."""
    path = book.notebooks[0]
    first = key(book, path, {})
    author.edit(path, "c4", source="Another sentence.")
    assert key(book, path, {}) == first
    author.edit(path, "c3", source="import llmbook\n\nvalue = 42 + 0 * llmbook.FACTOR")
    assert key(book, path, {}) != first


@pytest.mark.parametrize("what", ["library", "requirements", "parameters", "tags"])
def test_what_else_runs_again(book, author, what):
    """Would catch results of an older library, version or scale on the page."""
    path = book.notebooks[0]
    first, parameters = key(book, path, {}), {}
    match what:
        case "library":
            (book.root / "lib/llmbook/__init__.py").write_text("FACTOR = 3\n")
        case "requirements":
            (book.root / "requirements.txt").write_text("torch==2.13.0\nipykernel==8\n")
        case "parameters":
            parameters = {"scale": "full"}
        case "tags":
            author.edit(path, "c6", metadata=nbformat.from_dict({"tags": ["parameters"]}))
    assert key(book, path, parameters) != first


def test_scale_reaches_only_notebooks_that_have_it(book, author):
    """Would catch a parameters cell injected at the top of a home page that has none."""
    home = author.write(book, "home.ipynb", [author.md("# Home"), author.code("1 + 1")])
    assert parameters_for(home, "full") == {}
    assert parameters_for(book.notebooks[0], "full") == {"scale": "full"}
    assert parameters_for(book.notebooks[0], None) == {}


def test_namesakes_do_not_collide(book, pretend):
    """Would catch keeping results by stem: two parts both have an `attention`."""
    assert len(set(pretend.values())) == 2
    source = assemble(book, pretend)
    for name in ("chapters/one/attention.ipynb", "chapters/two/attention.ipynb"):
        outputs = [c.outputs for c in notebooks.code_cells(notebooks.read(source / name))]
        assert all(out[0].text.startswith(name) for out in outputs)


def test_merge_keeps_the_words_of_the_source(book, author, pretend):
    """Would catch a page that shows the prose of the last run instead of today's."""
    path = book.notebooks[0]
    author.edit(path, "c4", source="Written after the run.")
    page = notebooks.read(assemble(book, pretend) / book.name(path))
    assert "Written after the run." in [cell.source for cell in page.cells]
    assert next(c for c in page.cells if c.id == "c5").outputs[0].text.endswith(" c5\n")


def test_merge_drops_the_injected_parameters(book):
    """Would catch a `scale = "full"` cell of papermill standing in the chapter."""
    source = notebooks.read(book.notebooks[0])
    executed = notebooks.read(book.notebooks[0])
    executed.cells.insert(3, nbformat.v4.new_code_cell("scale = 'full'", metadata={"tags": ["injected-parameters"]}))
    assert [cell.id for cell in merge(source, executed).cells] == [
        c.id for c in notebooks.read(book.notebooks[0]).cells
    ]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("application/vnd.jupyter.widget-view+json", "cell c5 shows a live widget"),
        ("image/png", "cell c5 shows image/png without alternative text"),
    ],
)
def test_outputs_that_the_site_must_not_carry(book, pretend, kind, message):
    """Would catch five megabytes of widget state, or a picture that a screen reader cannot read."""
    path = book.notebooks[0]
    executed = notebooks.read(pretend[path])
    cell = next(c for c in executed.cells if c.id == "c5")
    cell.outputs = [nbformat.v4.new_output("display_data", data={kind: {} if "json" in kind else "iVBORw0="})]
    notebooks.write(pretend[path], executed)
    with pytest.raises(BookError, match=f"chapters/one/attention.ipynb: {message}"):
        assemble(book, pretend)


def test_a_line_that_was_overwritten_is_shown_as_it_ended(book, pretend):
    """Would catch a hundred states of a progress bar on the page, which a terminal shows as one line."""
    path = book.notebooks[0]
    executed = notebooks.read(pretend[path])
    pieces = ["before\n", "10 %\r", "90 %\r", "done\r\n", "after\n"]
    cell = next(c for c in executed.cells if c.id == "c5")
    cell.outputs = [nbformat.v4.new_output("stream", text=piece) for piece in pieces]
    page = merge(notebooks.read(path), executed)
    assert next(c for c in page.cells if c.id == "c5").outputs[0].text == "before\ndone\r\nafter\n"


def test_unchanged_pages_keep_their_time(book, pretend):
    """Would catch copies that make Sphinx read every page again."""
    page = assemble(book, pretend) / "chapters/one/attention.ipynb"
    os.utime(page, (1, 1))
    assemble(book, pretend)
    assert page.stat().st_mtime == 1


def test_pages_that_left_the_book_leave_the_site(book, pretend):
    """Would catch a removed chapter that stays on the site for ever."""
    stray = assemble(book, pretend) / "chapters/old/gone.ipynb"
    stray.parent.mkdir()
    stray.write_text("{}")
    assemble(book, pretend)
    assert not stray.parent.exists()


def test_a_failing_cell_is_told_and_the_others_are_kept(book, author, capfd):
    """Would catch a build that ends with 0 on a broken chapter, or throws away the hour of another one; and one that
    lets a chapter read the repository around it, which a reader in Colab does not have."""
    one, two = book.notebooks
    author.edit(two, "c6", source="import os\n\nassert value == 42\nassert os.listdir() == []")
    author.edit(one, "c6", source="values = [1]\nvalues[value]")
    assert main(["--root", str(book.root), "build"]) == 1
    out, err = capfd.readouterr()
    assert "FAILED chapters/one/attention.ipynb, cell 8 (id c6)" in err
    assert "IndexError: list index out of range" in err
    assert "  2 | values[value]" in err
    assert "1 failed; 1 ran well and are kept. No site was built." in err
    assert "chapters/two/attention.ipynb" in out
    assert not target(book, one, {}).exists()
    done = notebooks.read(target(book, two, {}))
    assert next(c for c in done.cells if c.id == "c5").outputs[0].text == "42\n"
    assert not book.html.exists()
    # And now nothing has to run again for the one that went well.
    (run,) = execute(book, [two])
    assert run == Run(two, target(book, two, {}))


def test_an_interrupted_build_leaves_no_half_and_goes_on(book, author):
    """Would catch a half-written result taken for a whole one after Ctrl-C, and finished chapters run again."""
    one, two = book.notebooks
    author.edit(two, "c6", source="import time\n\ntime.sleep(600)\nassert value == 42")
    # A shell has its background jobs ignore SIGINT, and what such a job starts inherits that: not this build.
    heed = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-m", "publishing", "--root", str(book.root), "build"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", heed, *command], env=environment(book), **pipes) as build:
        folder = target(book, two, {}).parent
        while not (target(book, one, {}).exists() and list(folder.glob(".*.partial"))):
            assert build.poll() is None, build.communicate()
            time.sleep(0.1)
        build.send_signal(signal.SIGINT)
        _, err = build.communicate()
    assert build.returncode == 130
    assert "Interrupted: what had finished is kept" in err
    assert list(folder.iterdir()) == []
    assert execute(book, [one]) == [Run(one, target(book, one, {}))]


def test_one_build_at_a_time(book):
    """Would catch two terminals writing into the same site."""
    import fcntl

    book.build.mkdir()
    with (book.build / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BookError, match="another build"):
            build(book)


def test_unknown_scale(book, capsys):
    """Would catch SCALE=fulll being passed on to every chapter."""
    assert main(["--root", str(book.root), "build", "--scale", "fulll"]) == 1
    assert "SCALE=fulll: choose quick, full or auto" in capsys.readouterr().err
