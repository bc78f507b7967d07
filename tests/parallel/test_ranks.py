"""Processes started from Python: their errors come back, none is waited for for ever, none survives."""

import os
import subprocess
import sys

import psutil
import pytest

from llmbook.parallel import RankError, Ranks, run_ranks
from llmbook.parallel.carried import carry, fetch
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


def test_processes_are_kept_for_several_calls(capfd):
    """Catches a second start (a chapter would wait for it), results of an earlier call, random numbers that go on, and
    what a process prints shown twice or not at all."""
    with Ranks(2) as ranks:
        first, second = ranks.run(worker.draw), ranks.run(worker.draw)
        assert ranks.run("operator:add", 1, 2) == [3, 3]
    assert [pid for pid, _ in first] == [pid for pid, _ in second]
    assert len({number for _, number in first + second}) == 1
    assert capfd.readouterr().out.count("drawn") == 4
    assert not any(psutil.pid_exists(pid) for pid, _ in first)
    with pytest.raises(RankError, match="have ended: start others"):
        ranks.run(worker.draw)


def test_no_process_survives_a_call_that_fails():
    """Catches processes left waiting for a rank that is gone."""
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(RankError, match="cannot count"):
        Ranks(2).run(worker.fail)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_processes_end_with_the_one_that_started_them(tmp_path):
    """Catches processes that outlive a kernel which was killed, while they wait and while they compute; and a function
    of a program's own file, as a notebook's, that does not reach them."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, encoding="utf-8")
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, env=found) as program:
        numbers = [int(word) for word in program.stdout.readline().split()]
        processes = [psutil.Process(number) for number in numbers]
        program.kill()
    assert len(numbers) == 2
    psutil.wait_procs(processes, timeout=30)
    assert not any(process.is_running() for process in processes)


PROGRAM = """
import os, threading, time
from llmbook.parallel import Ranks

FACTOR = 2

def double(number, *, then=0):
    return [FACTOR * k for k in range(number)][-1] + then

def work():
    return os.getpid() if double(3, then=1) == 5 else "wrong"

if __name__ == "__main__":
    ranks = Ranks(2)
    numbers = ranks.run(work)
    threading.Thread(target=ranks.run, args=("time:sleep", 600), daemon=True).start()
    time.sleep(0.5)
    print(*numbers, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("what", "message"),
    [("inner", "is a function inside another one"), ("kept", "Kept belongs to the notebook and is no function"),
     ("lock", "LOCK cannot travel to another process")],
)  # fmt: skip
def test_what_a_notebook_s_function_cannot_take_along(what, message):
    """Catches an error far from its cause, in a process that lacks a name."""
    space = {"__name__": "__main__"}
    exec(NOTEBOOK, space)  # functions whose module is __main__
    with pytest.raises(ValueError, match=message):
        carry(space[what])
    name, things = carry(space["fine"])
    assert fetch((name, things))(3) == 8
    assert "real" not in things  # an attribute of that name, not the lock


NOTEBOOK = """
import threading, math
LOCK, real = threading.Lock(), threading.Lock()
class Kept: pass
def outer(k):
    def inner(): return k
    return inner
inner = outer(1)
def kept(): return Kept()
def lock(): return LOCK
def helper(x, more=2): return math.prod([x, more])
def fine(x): return helper(x) + max(2, x.real - x)
"""
