"""Several processes from one line of Python: ``run_ranks(fn, world_size, ...)`` calls ``fn`` in each and collects.

In a process group of N, every process runs the same program and knows its number, the rank 0 … N − 1; what differs
follows from the rank. The choice here: real processes (a thread could not show what a network does), joined by gloo,
the library that carries tensors between CPUs, over a file in a temporary folder instead of a port. It is slow to start
(each process imports torch) and meant for learning and for tests; real runs are started by torchrun.
"""

import faulthandler
import importlib
import pickle
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


class RankError(RuntimeError):
    """A process failed or did not come to an end; the message says which, and how."""


def run_ranks(fn: Callable[..., Any] | str, world_size: int, *args: Any, timeout: float = 120.0) -> list[Any]:
    """Call ``fn(*args)`` in ``world_size`` processes of one group; return what each gave back, in order of rank.

    ``fn`` is a function at the top of an importable module, or its address "package.module:name". A function typed
    into a notebook's cell does not exist in a fresh process: write it to a file with ``%%writefile``. Arguments and
    results travel by pickle. Inside, ``torch.distributed`` is ready, each process computes on one thread, and random
    numbers start from seed 0 everywhere.

    Raises ValueError for a function that other processes cannot find, RankError with the process's own error if one
    fails, or if they are not done after ``timeout`` seconds. No process survives the call.
    """
    if world_size < 1:
        raise ValueError(f"world_size={world_size}: there must be at least 1 process")
    address = fn if isinstance(fn, str) else _address(fn)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "path.pickle").write_bytes(pickle.dumps(sys.path))
        (path / "call.pickle").write_bytes(pickle.dumps((address, args, timeout)))
        processes = []
        try:
            for rank in range(world_size):
                with open(path / f"{rank}.log", "wb") as log:
                    command = [sys.executable, "-c", _CHILD, folder, str(rank), str(world_size)]
                    processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
            _wait(processes, path, time.monotonic() + timeout, timeout)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait()
        for rank in range(world_size):  # what they printed, in order
            print((path / f"{rank}.log").read_text(encoding="utf-8", errors="replace"), end="")
        return [pickle.loads((path / f"{rank}.result").read_bytes()) for rank in range(world_size)]


# sys.path first, for then the rest of the call can be unpickled.
_CHILD = (
    "import pickle, sys; folder = sys.argv[1]; "
    "file = open(folder + '/path.pickle', 'rb'); sys.path[:] = pickle.load(file); "
    "from llmbook.parallel.ranks import child; child(folder, int(sys.argv[2]), int(sys.argv[3]))"
)


def child(folder: str, rank: int, world_size: int) -> None:
    """What each process does: join the group, find the function, call it, leave the result in a file."""
    faulthandler.enable()  # a crash below Python says where it was
    path = Path(folder)
    address, args, timeout = pickle.loads((path / "call.pickle").read_bytes())
    torch.set_num_threads(1)
    store = dist.FileStore(str(path / "store"), world_size)
    wait = timedelta(seconds=timeout)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=wait)
    torch.manual_seed(0)
    try:
        module, name = address.split(":")
        result = getattr(importlib.import_module(module), name)(*args)
    except BaseException:
        (path / f"{rank}.error").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    (path / f"{rank}.result").write_bytes(pickle.dumps(result))
    dist.barrier()  # no process ends while another still sends to it
    dist.destroy_process_group()


def _address(fn: Callable[..., Any]) -> str:
    module, name = fn.__module__, fn.__qualname__
    if module == "__main__" or "." in name or "<" in name:
        raise ValueError(
            f"{name} of {module} cannot be found by another process: define it at the top of a module that can be "
            "imported (in a notebook: a cell that begins with %%writefile name.py, then import it)"
        )
    return f"{module}:{name}"


def _wait(processes: list[subprocess.Popen], path: Path, deadline: float, timeout: float) -> None:
    """Until all have ended; an error as soon as one fails, for the others would wait for it."""
    while (codes := [process.poll() for process in processes]) != [0] * len(processes):
        failed = [rank for rank, code in enumerate(codes) if code not in (None, 0)]
        if failed:
            # A failing rank breaks the others' connections: the cause is who was killed, or else the first error.
            killed = [rank for rank in failed if (codes[rank] or 0) < 0]
            errors = sorted(path.glob("*.error"), key=lambda file: file.stat().st_mtime_ns)
            rank = killed[0] if killed else int(errors[0].stem) if errors else failed[0]
            file = path / f"{rank}.log" if killed or not errors else errors[0]
            said = file.read_text(encoding="utf-8", errors="replace")
            raise RankError(f"rank {rank} of {len(processes)} failed (exit code {codes[rank]}):\n{said[-8000:]}")
        if time.monotonic() > deadline:
            waiting = [rank for rank, code in enumerate(codes) if code is None]
            raise RankError(
                f"rank {', '.join(map(str, waiting))} of {len(processes)} not done after {timeout:g} s: does every "
                "receive have its send, and does every rank reach every collective call? (Else: a larger timeout)"
            )
        time.sleep(0.02)
