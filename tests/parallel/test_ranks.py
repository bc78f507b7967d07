"""Processes started from Python: their errors come back, none is waited for for ever, none survives."""

import os

import psutil
import pytest

from llmbook.parallel import RankError, run_ranks
from tests.parallel import worker
from tests.ranks import run_ranks_once_more

needs_signals = pytest.mark.skipif(os.name == "nt", reason="no process on Windows dies of a signal")


def test_an_error_comes_back_with_its_rank():
    """Catches a failed process reported as a missing file or as a number."""
    with pytest.raises(RankError, match=r"(?s)rank 0 of 1 failed .exit code 1.*rank 0 cannot count"):
        run_ranks("tests.parallel.worker:fail", 1)


@needs_signals
def test_a_crash_below_python_is_the_cause():
    """Catches the broken connection of another rank taken for the cause, and a crash that does not say where it was."""
    with pytest.raises(RankError, match=r"(?s)rank 1 of 2 failed .exit code -11.*Segmentation fault.* in crash"):
        run_ranks(worker.crash, 2)


@needs_signals
def test_a_crash_in_a_test_is_tried_once_more(tmp_path, recwarn):
    """Catches a second try in what the first has left, one that says nothing, and one for errors in Python."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "begun").touch()
    with pytest.warns(UserWarning, match="started once more: rank 1 of 2 failed .exit code -11"):
        assert run_ranks_once_more(worker.crash_once, 2, str(folder), folder=folder) == [["begun"]] * 2
    with pytest.raises(RankError, match="cannot count"):
        run_ranks_once_more(worker.fail, 1)
    assert not recwarn


def test_a_process_that_does_not_end_is_killed():
    """Catches a notebook that hangs, and children that live on."""
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(RankError, match=r"rank 0 of 1 not done after 0.2 s: does every receive have its send"):
        run_ranks(worker.sleep, 1, timeout=0.2)
    assert set(psutil.Process().children(recursive=True)) <= before  # it would have slept on for ten minutes


def test_functions_other_processes_cannot_find():
    """Catches an unpickling error in the child, far from its cause."""
    with pytest.raises(ValueError, match="cannot be found by another process: define it at the top of a module"):
        run_ranks(lambda: None, 2)
    with pytest.raises(ValueError, match="world_size=0: there must be at least 1 process"):
        run_ranks(worker.fail, 0)
