"""What was recorded is read back, chosen by circumstances, and a damaged file says what to do."""

import json
import tomllib
from pathlib import Path

import pytest

from llmbook.results import recorded, reference, shown
from llmbook.results.reference import DamagedReference, Reference

QUICK = {"scale": "quick", "device": "CPU"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "references")
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    return tmp_path


def keep(chapter="part/name", scale="quick", values=None):
    values = values or {"loss": [1.9, 1.91, 1.92], "parameters": [5.0] * 3}
    about = dict(command=f"make reference CHAPTER={chapter}", date="2026-11-30", circumstances=QUICK | {"scale": scale})
    reference.save(Reference(chapter=chapter, values=values, **about), scale=scale)


def test_what_is_saved_is_loaded():
    """Catches values that lose their runs when equal ones are written once, and NaN that JSON may not hold."""
    values = {"loss": [1.9, 1.91, 1.92], "parameters": [5.0] * 3, "bad": [float("nan")] * 3}
    keep(values=values)
    assert repr(reference.load("part/name").values) == repr(values)
    assert reference.load("part/name", scale="full") is None
    assert reference.known() == ["part/name"]


def test_scales_are_kept_beside_each_other():
    """Catches a run on a GPU that overwrites the values every reader without one is compared with."""
    keep()
    keep(scale="full", values={"loss": [1.4, 1.5, 1.45]})
    assert reference.load("part/name").values["loss"] == [1.9, 1.91, 1.92]
    assert reference.nearest("part/name", {"scale": "full"}, among=["loss"]).values["loss"] == [1.4, 1.5, 1.45]


def test_a_recorded_run_is_taken_where_it_is_nearer(folder, monkeypatch):
    """Catches a long run compared with a short one although a long one has been recorded."""
    keep()
    data = {"loss": 1.6, "training": {"steps": 10_000}, "curve": [1, 2]}
    recorded.record("long", data, command='make record CHAPTER=part/name SET="steps=10000"', device="CPU, 2 cores")
    near = reference.nearest("part/name", {"steps": "10000", "device": "CPU"}, among=["loss"])
    assert (near.values, near.circumstances["steps"], near.once) == ({"loss": [1.6]}, "10000", True)
    assert reference.nearest("part/other", {"steps": "10000"}, among=["loss"]) is None
    assert reference.nearest("part/name", QUICK, among=["parameters"]).values["parameters"] == [5.0] * 3


@pytest.mark.parametrize("text", ["{", "[]", '{"quick": {"values": {}}}', '{"quick": 3}', '{"quick": {"runs": 1}}'])
def test_a_damaged_file_says_what_to_do(folder, text):
    """Catches a traceback of JSON in the reader's notebook."""
    path = folder / "references" / "part" / "name.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(DamagedReference, match=r"damaged .*make reference CHAPTER=part/name"):
        reference.nearest("part/name", QUICK, among=["loss"])
    assert shown.in_words("part/name", {"loss": 1.0}, QUICK).startswith(
        "Not compared: the recorded numbers of part/name"
    )


def test_an_unknown_chapter_is_told_which_there_are():
    """Catches an empty table after a spelling mistake."""
    keep()
    assert shown.in_words("part/nam", {"loss": 1.0}, QUICK) == (
        "Not compared: there are no recorded numbers for 'part/nam'; there are some for: part/name."
    )


def test_the_notebook_shows_the_table_and_keeps_its_numbers(capsys, monkeypatch):
    """Catches a call whose numbers `make compare` cannot find again, and a table without its origin."""
    keep()
    seen = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: seen.append((data, options["metadata"])))
    shown.compare("part/name", {"loss": 2.31, "parameters": 5, "scale": "quick"})
    ((data, metadata),) = seen
    assert "1 of 2 numbers in the band" in data["text/markdown"]
    assert "make reference" in data["text/plain"]
    assert metadata["llmbook"]["quantities"] == {"loss": 2.31, "parameters": 5.0}
    assert metadata["llmbook"]["circumstances"]["scale"] == "quick"
    assert json.dumps(metadata)


def test_every_reference_of_the_book_can_be_read(monkeypatch):
    """Catches a file edited by hand, and one under the name of another chapter."""
    monkeypatch.undo()
    setup = tomllib.loads((Path(recorded.__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = setup["tool"]["setuptools"]["package-data"]["llmbook"]
    carried = {path for pattern in patterns for path in reference.FOLDER.parents[1].glob(pattern)}
    assert set(reference.FOLDER.rglob("*.json")) <= carried, "what a reader installs has them too"
    assert reference.known()
    for chapter in reference.known():
        kept = reference.load(chapter)
        assert kept.values, chapter
        assert f"CHAPTER={chapter}" in kept.command.split()
        assert all(len(values) >= 3 for values in kept.values.values()), chapter
