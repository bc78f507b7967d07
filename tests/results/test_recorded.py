"""Recorded runs: kept only when asked, whole or not at all."""

import pytest

from llmbook import results
from llmbook.results import recorded


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    return tmp_path


def test_a_reader_records_nothing(folder, monkeypatch):
    """A reader's quick run that overwrites the recorded one."""
    monkeypatch.delenv("LLMBOOK_RECORD", raising=False)
    results.record("run", {"loss": 1.0})
    assert results.load("run") is None


def test_a_record_says_where_it_comes_from(folder, monkeypatch):
    """Numbers without the machine and the command that made them."""
    monkeypatch.setenv("LLMBOOK_RECORD", "make record CHAPTER=x")
    results.record("run", {"loss": [1.5, 2.5]})
    run = results.load("run")
    assert run.data == {"loss": [1.5, 2.5]}
    assert "make record CHAPTER=x" in str(run)
    assert run.versions["torch"] in str(run)


def test_a_program_that_always_records_names_itself(folder, monkeypatch):
    """A benchmark's numbers that are lost because nobody switched recording on."""
    monkeypatch.delenv("LLMBOOK_RECORD", raising=False)
    results.record("run", {"loss": 1.0}, command="python -m benchmarks quality --keep")
    assert results.load("run").command == "python -m benchmarks quality --keep"


def test_a_failed_record_leaves_the_old_one(folder, monkeypatch):
    """A record half overwritten by data that cannot be written."""
    monkeypatch.setenv("LLMBOOK_RECORD", "make record")
    results.record("run", {"loss": 1.0})
    with pytest.raises(TypeError):
        results.record("run", {"loss": object()})
    assert results.load("run").data == {"loss": 1.0}


def test_every_packaged_record_can_be_read():
    """A record committed by hand, or by an older version."""
    for path in recorded.FOLDER.glob("*.json"):
        run = results.load(path.stem)
        assert run.name == path.stem
        assert run.commit not in ("", "unknown")
