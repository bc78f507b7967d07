"""Atomic writes: the old file or the new one."""

import os

import pytest

from llmbook.storage import sweep_unfinished, whole_file, write_file


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path):
    """Catches opening the file itself for writing, which empties it at once, and temporary files left behind."""
    path = write_file(tmp_path / "new" / "a.json", "old\r\n")

    def interrupted():
        with whole_file(path) as file:
            file.write(b"half of the n")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        interrupted()
    assert path.read_bytes() == b"old\r\n"
    assert os.listdir(path.parent) == ["a.json"]
    assert write_file(path, "新\n".encode()).read_text(encoding="utf-8") == "新\n"


def test_only_the_files_of_dead_processes_are_swept(tmp_path):
    """Catches deleting what another process is writing now, and files of other names."""
    mine, dead, other = (tmp_path / name for name in (f".a.pt.{os.getpid()}.tmp", ".a.pt.999999999.tmp", "a.pt"))
    for path in (mine, dead, other):
        path.write_bytes(b"")
    sweep_unfinished(tmp_path, ".pt")
    assert sorted(os.listdir(tmp_path)) == sorted([mine.name, other.name])
