"""Several processes from one line of Python: ``run_ranks(fn, world_size, ...)`` calls ``fn`` in each and collects.

In a process group of N, every process runs the same program and knows its number, the rank 0 … N − 1; what differs
follows from the rank. The choice here: real processes (a thread could not show what a network does), joined by gloo,
the library that carries tensors between CPUs, over a file in a temporary folder instead of a port. They are new
interpreters, not forks: a fork of a process with threads, as a notebook's is, may hang. It is slow to start
(each process imports torch) and meant for learning and for tests; real runs are started by torchrun.
"""

import contextlib
import faulthandler
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from llmbook.parallel.carried import carry, fetch


class RankError(RuntimeError):
    """A process failed or did not come to an end; the message says which, and how."""


def run_ranks(fn: Callable[..., Any] | str, world_size: int, *args: Any, timeout: float = 120.0) -> list[Any]:
    """Call ``fn(*args)`` in ``world_size`` processes of one group; return what each gave back, in order of rank.

    As ``Ranks(world_size).run(fn, *args)``, for one call: no process survives it.
    """
    with Ranks(world_size, timeout=timeout) as ranks:
        return ranks.run(fn, *args)


class Ranks:
    """``world_size`` processes of one group that wait for work: started once, used by several cells of a notebook.

    ``run`` may take ``timeout`` seconds each time. The processes end with ``close()``, at the end of a ``with``, when a
    call fails, and when the process that started them ends, however it does: each watches a pipe from it.
    Raises ValueError for a ``world_size`` below 1.
    """

    def __init__(self, world_size: int, *, timeout: float = 120.0):
        if world_size < 1:
            raise ValueError(f"world_size={world_size}: there must be at least 1 process")
        self.timeout, self._calls = timeout, 0
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._path = Path(self._folder.name)
        self._told = [0] * world_size  # bytes of each log that have been shown
        self._processes: list[subprocess.Popen] = []
        self._world_size = world_size
        self._end = weakref.finalize(self, _kill, self._processes, self._folder)

    def run(self, fn: Callable[..., Any] | str, *args: Any) -> list[Any]:
        """Call ``fn(*args)`` in every process; return what each gave back, in order of rank.

        ``fn`` is a function at the top of an importable module, its address "package.module:name", or a function of
        the notebook: that one travels with the functions and values it names (``carried.py``). Arguments and results
        travel by pickle. Inside, ``torch.distributed`` is ready, each process computes on one thread, and random
        numbers start from seed 0 everywhere.

        Raises ValueError for a function that other processes cannot be given, RankError with the process's own error
        if one fails, if they are not done in time, or if an earlier call failed: no process survives an error.
        """
        if not self._end.alive:
            raise RankError("these processes have ended: start others with Ranks(world_size)")
        (self._path / f"call.{self._calls}").write_bytes(pickle.dumps((carry(fn), args)))
        try:
            self._start()
            for process in self._processes:
                _tell(process, b"c")
            self._wait(time.monotonic() + self.timeout)
        except BaseException:
            self._end()
            raise
        self._show()
        files = [self._path / f"{rank}.result.{self._calls}" for rank in range(self._world_size)]
        self._calls += 1
        return [pickle.loads(file.read_bytes()) for file in files]

    def close(self) -> None:
        """End the processes; those that are idle leave the group together first."""
        if self._end.alive:
            for process in self._processes:
                _tell(process, b"e")
            deadline = time.monotonic() + 10
            while any(process.poll() is None for process in self._processes) and time.monotonic() < deadline:
                time.sleep(0.02)
            self._end()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        if self._processes:
            return
        (self._path / "path.pickle").write_bytes(pickle.dumps(sys.path))
        for rank in range(self._world_size):
            command = [sys.executable, "-c", _CHILD, str(self._path), *map(str, (rank, self._world_size, self.timeout))]
            with open(self._path / f"{rank}.log", "wb") as log:
                started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
            self._processes.append(started)

    def _wait(self, deadline: float) -> None:
        """Until all results are there; an error as soon as one process ends, for the others would wait for it."""
        n, path = self._world_size, self._path
        while not all((path / f"{rank}.result.{self._calls}").exists() for rank in range(n)):
            codes = [process.poll() for process in self._processes]
            failed = [rank for rank, code in enumerate(codes) if code is not None]
            if failed:
                # A failing rank breaks the others' connections: the cause is who was killed, or else the first error.
                killed = [rank for rank in failed if (codes[rank] or 0) < 0]
                errors = sorted(path.glob("*.error"), key=lambda file: file.stat().st_mtime_ns)
                rank = killed[0] if killed else int(errors[0].stem) if errors else failed[0]
                if not killed and errors:
                    self._processes[rank].wait()  # it has said why, and is on its way out
                file = path / f"{rank}.log" if killed or not errors else errors[0]
                said = file.read_text(encoding="utf-8", errors="replace")
                code = self._processes[rank].poll()
                raise RankError(f"rank {rank} of {n} failed (exit code {code}):\n{said[-8000:]}")
            if time.monotonic() > deadline:
                waiting = [rank for rank in range(n) if not (path / f"{rank}.result.{self._calls}").exists()]
                raise RankError(
                    f"rank {', '.join(map(str, waiting))} of {n} not done after {self.timeout:g} s: does every "
                    "receive have its send, and does every rank reach every collective call? (Else: a larger timeout)"
                )
            time.sleep(0.01)

    def _show(self) -> None:
        """What the processes printed since the last call, in order of rank."""
        for rank in range(self._world_size):
            said = (self._path / f"{rank}.log").read_bytes()
            print(said[self._told[rank] :].decode("utf-8", errors="replace"), end="")
            self._told[rank] = len(said)


# sys.path first, for then the rest can be unpickled.
_CHILD = (
    "import pickle, sys; folder = sys.argv[1]; "
    "file = open(folder + '/path.pickle', 'rb'); sys.path[:] = pickle.load(file); "
    "from llmbook.parallel.ranks import child; child(folder, int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))"
)


def child(folder: str, rank: int, world_size: int, timeout: float) -> None:
    """What each process does: join the group; for each call find the function, call it, leave the result in a file."""
    faulthandler.enable()  # a crash below Python says where it was
    path, told = Path(folder), queue.SimpleQueue[bytes]()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    torch.set_num_threads(1)
    store = dist.FileStore(str(path / "store"), world_size)
    wait = timedelta(seconds=timeout)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=wait)
    number = 0
    while told.get() == b"c":
        torch.manual_seed(0)
        try:
            carried, args = pickle.loads((path / f"call.{number}").read_bytes())
            result = pickle.dumps(fetch(carried)(*args))
        except BaseException:
            (path / f"{rank}.error").write_text(traceback.format_exc(), encoding="utf-8")
            raise
        sys.stdout.flush()
        (path / f"{rank}.part").write_bytes(result)
        os.replace(path / f"{rank}.part", path / f"{rank}.result.{number}")  # it is there at once, and whole
        number += 1
    dist.barrier()  # no process ends while another still sends to it
    dist.destroy_process_group()


def _listen(told: "queue.SimpleQueue[bytes]") -> None:
    """Pass on what the parent says; where the pipe ends, the parent has ended, and this process ends as well."""
    while letter := os.read(0, 1):
        told.put(letter)
    os._exit(1)


def _tell(process: subprocess.Popen, letter: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it has ended, and waiting for it says how
        process.stdin.write(letter)
        process.stdin.flush()


def _kill(processes: list[subprocess.Popen], folder: tempfile.TemporaryDirectory) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
    folder.cleanup()
