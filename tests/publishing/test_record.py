"""A recorded run is the chapter itself, at length, under the command that would make it again."""

import pytest

from publishing.__main__ import main
from publishing.book import BookError
from publishing.record import record
from tests.publishing.conftest import chapter_cells, code, write_notebook


@pytest.fixture(autouse=True)
def _no_recording(monkeypatch):
    monkeypatch.setenv("LLMBOOK_RECORD", "")  # and restored afterwards


def recording_chapter(book):
    """A chapter that writes what it was run with, into the file that SEEN names."""
    write = 'import os\nsaid = (os.environ["LLMBOOK_RECORD"], scale, str(steps))'
    write += '\nopen(os.environ["SEEN"], "w").write(" | ".join(said))'
    cells = chapter_cells("Attention")
    cells[2].source += "\nsteps = 10"
    write_notebook(book, "chapters/one/attention.ipynb", [*cells, code(write, "hide-input")])


def test_the_chapter_runs_with_the_settings_and_knows_its_command(book, monkeypatch, tmp_path):
    """A record made by other settings than its command names, or a run left behind among the built ones."""
    recording_chapter(book)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.txt"))
    assert main(["--root", str(book.root), "record", "one/attention", "steps=7", "scale=quick"]) == 0
    seen = (tmp_path / "seen.txt").read_text()
    assert seen == 'make record CHAPTER=one/attention SET="steps=7 scale=quick" | quick | 7'
    assert not list((book.build / "executed").rglob("*.ipynb"))


@pytest.mark.parametrize(
    ("settings", "message"), [(["step=7"], "no parameter 'step'; it has"), (["steps"], "name=value")]
)
def test_a_misspelt_setting_is_refused(book, settings, message):
    """An hour of computing with the default because of a letter."""
    recording_chapter(book)
    with pytest.raises(BookError, match=message):
        record(book, "one/attention", settings)
