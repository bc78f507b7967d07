"""`make compare` reads what was executed, and `make reference` records it; nothing here runs a real chapter."""

import json

import nbformat
import pytest

from llmbook.results import reference as kept
from publishing import notebooks, told
from publishing.__main__ import main
from publishing.book import BookError
from publishing.compare import compare
from publishing.seeds import MOVED, reference, values
from publishing.worker import NOTE

ONE, TWO = "one/attention", "two/attention"
VERSIONS = {"Python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "plotly": "7.1.0", "llmbook": "0.1.0"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "references")
    monkeypatch.setattr(kept, "made_by", lambda chapter: [])
    return tmp_path / "references"


def printing(cell, text):
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]


def executed(book, which=0, loss="1.91", scale="quick", versions=VERSIONS, runtime=None, edit=""):
    """An executed copy that nobody ran: it printed a scale, a loss and a count."""
    source = book.notebooks[which]
    notebook = notebooks.read(source)
    cells = {cell.id: cell for cell in notebook.cells}
    said = f"{runtime}\n" if runtime else ""
    printing(cells["c2"], f"scale: {scale} (asked for)\n{said}")
    printing(cells["c5"], f"loss {loss}\nparameters 103,232\n0.3 s\n")
    cells["c6"].source += edit
    notebook.metadata[NOTE] = {"machine": "a laptop", "versions": versions, "threads": "1", "device": "CPU"}
    path = book.build / "executed" / book.name(source).removesuffix(".ipynb") / "abc.ipynb"
    notebooks.write(path, notebook)
    return notebook


def record(book, which=0, losses=("1.91", "1.92", "1.90")):
    """A reference from runs like those of `executed`."""
    first, *others = [executed(book, which, loss) for loss in losses]
    name = (ONE, TWO)[which]
    made = kept.Reference(
        chapter=name,
        circumstances=told.circumstances(first),
        command=f"make reference CHAPTER={name}",
        date="2026-11-30",
        values=values(first, first, others),
    )
    kept.save(made, scale="quick")


def run(book, *arguments):
    return main(["--root", str(book.root), "compare", *arguments])


def test_numbers_in_the_band_take_one_line_a_chapter(book, capsys):
    """Catches a page of numbers where nothing is wrong."""
    for which in (0, 1):
        record(book, which)
        executed(book, which)
    assert run(book) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: 2 of 2 numbers in the band" for name in (ONE, TWO)]


def test_a_wrong_number_is_shown_and_fails(book, capsys):
    """Catches a fault that `make compare` prints and yet exits 0 on."""
    record(book)
    executed(book, loss="2.31")
    assert run(book) == 1
    said = capsys.readouterr().out
    assert f"{ONE}: 1 of 2 numbers in the band, 1 unexplained" in said
    (line,) = [line for line in said.splitlines() if line.startswith("| c5: loss #")]
    assert [cell.strip() for cell in line.split("|")[2:6]] == ["2.31", "1.91", "± 0.12", "outside, unexplained"]
    assert "please report it" in said
    assert "torch 2.13.0" in said
    assert "not run yet" in said  # the other chapter


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(loss="1.40", scale="full"), "scale full (ours quick)"),
        (dict(loss="2.31", versions=VERSIONS | {"llmbook": "0.2.0"}), "llmbook 0.2.0 (ours 0.1.0)"),
        (dict(loss="2.08", versions=VERSIONS | {"torch": "2.8.0"}), "torch 2.8.0 (ours 2.13.0): expected up to"),
        (dict(loss="2.31", edit="\nx = 1"), "the chapter's code has changed since ours was recorded"),
    ],
)
def test_a_planted_difference_is_named(book, capsys, changes, words):
    """Catches a cause that is there and goes unnamed."""
    record(book)
    executed(book, **changes)
    assert run(book, "--chapter", ONE) == 0
    assert words in capsys.readouterr().out


def test_the_device_is_what_the_chapter_said_it_computed_on(book):
    """Catches a GPU that is in the machine, and idle, given as the cause of a chapter that computes on the CPU."""
    gpu = executed(book, runtime="cuda, float16: Tesla T4; compute capability 7.5 has no bfloat16")
    assert {k: told.circumstances(gpu)[k] for k in ("device", "dtype")} == {"device": "Tesla T4", "dtype": "float16"}
    cpu = executed(book, runtime="cpu, float32: cpu as asked; float32 is the safe choice on cpu")
    cpu.metadata[NOTE]["device"] = "Tesla T4"
    assert told.circumstances(cpu)["device"] == "CPU"
    assert told.circumstances(executed(book))["device"] == "CPU"


def test_numbers_that_a_chapter_compares_itself_are_found(book, capsys):
    """Catches named numbers that only the notebook ever compares."""
    notebook = executed(book)
    noted = {"quantities": {"final_loss": 1.6}, "circumstances": {"steps": "500", "dtype": "bfloat16"}}
    cell = next(cell for cell in notebook.cells if cell.id == "c6")
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/plain": "a table"}, metadata={NOTE: noted})]
    assert told.quantities(notebook)["final_loss"].value == 1.6
    assert told.circumstances(notebook)["steps"] == "500"
    assert told.circumstances(notebook)["dtype"] == "bfloat16"


def test_a_clock_is_left_out_and_a_seed_gives_the_band(book):
    """Catches a time recorded as a result, and one that two runs happen to share with a third."""
    runs = [executed(book, loss=loss) for loss in ("1.91", "1.91", "1.95", "1.90")]
    for notebook, took in zip(runs, (12.5, 13.1, 12.5, 12.5), strict=True):
        printing(next(cell for cell in notebook.cells if cell.id == "c6"), f"took {took}")
    first, again, *others = runs
    found = values(first, again, others)
    assert found == {"c5: loss #": [1.91, 1.95, 1.90], "c5: parameters #": [103_232.0] * 3}
    assert "c5: loss #" not in values(first, again, [executed(book, loss="1.95")]), "two seeds make no band"


def test_what_is_not_there_is_said(book, capsys):
    """Catches a traceback, or silence, before the first run, for a chapter that is misspelt, and without reference."""
    with pytest.raises(BookError, match="run `make book` first"):
        compare(book)
    with pytest.raises(BookError, match="no chapter 'one/atention'"):
        compare(book, "one/atention")
    executed(book)
    assert run(book) == 0
    assert f"{ONE}: nothing recorded, `make reference CHAPTER={ONE}` records it" in capsys.readouterr().out


def test_a_damaged_reference_fails_and_the_others_are_compared(book, folder, capsys):
    """Catches one broken file that hides what all the other chapters gave."""
    for which in (0, 1):
        record(book, which)
        executed(book, which)
    (folder / "one" / "attention.json").write_text("{")
    assert run(book) == 1
    said = capsys.readouterr()
    assert f"{TWO}: 2 of 2 numbers in the band" in said.out
    assert f"make reference CHAPTER={ONE}" in said.err


def test_the_newest_run_counts(book, capsys):
    """Catches the run of last week compared in place of today's."""
    import os

    record(book)
    executed(book, loss="2.31")
    path = book.build / "executed" / "chapters" / "one" / "attention" / "abc.ipynb"
    old = path.rename(path.with_name("old.ipynb"))
    os.utime(old, (1, 1))
    executed(book)
    assert run(book) == 0
    assert "2 of 2" in capsys.readouterr().out


DRAWS = """
import random, numpy, torch
def draws():
    torch.manual_seed(0)
    numbers = [torch.rand(()).item(), torch.rand(2, generator=torch.Generator().manual_seed(0))[1].item()]
    numbers += [numpy.random.default_rng(0).random(), numpy.random.default_rng([0, 3]).random()]
    random.seed(0)
    return [*numbers, random.random(), [random.Random(0).random() for _ in range(2)][1] + 1]
plain = draws()
"""


def test_moved_seeds_move_everything_that_is_seeded():
    """Catches a band of no width: seeds that were moved for one kind of random number and not for the others."""
    shared = "print(len(set(plain) & set(draws())))"
    assert _alone(f"{DRAWS}\n{MOVED.format(shift=0)}\n{shared}") == "6"
    assert _alone(f"{DRAWS}\n{MOVED.format(shift=1000)}\n{shared}") == "0"


def test_recording_runs_the_chapter_under_several_seeds(book, author, folder):
    """Catches a reference made of one run, a failing claim that stops it, and a clock recorded as a result."""
    draw = "import time, torch\ntorch.manual_seed(0)\nx = torch.rand(()).item()\nprint('x', x, time.time_ns())"
    luck = "torch.manual_seed(0)\nassert x == torch.rand(()).item() and x > 0.4, x"
    tail = [author.code(source) for source in (draw, luck, "print('n', 7)")]
    author.write(book, "chapters/one/attention.ipynb", [*author.cells("One"), *tail])
    said = []
    reference(book, [book.find(ONE)], runs=3, say=said.append)
    made = kept.load(ONE)
    found = {name.split(": ")[1]: given for name, given in made.values.items()}
    assert len(set(found["x # …"])) == 3
    assert found["n #"] == [7.0] * 3
    assert "x … #" not in found
    assert any("fails: AssertionError" in line for line in said)
    assert json.loads((folder / "one" / "attention.json").read_text())["quick"]["runs"] == 3


def _alone(source):
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
