"""Comparing speeds on a machine that is never quite quiet.

Every contender runs in a process of its own (frameworks set global state; an idle process costs nothing). All are
built and warmed up first. Then, in every round and in a new random order, each is measured once, right after the base
that all are compared with: a machine that slows down for some seconds slows both, and the ratio of the pair stays the
same. Blocks are short for the same reason; before each pair we wait until nothing else runs. Two clocks are read:
wall time, which readers feel, and the process's own CPU time, which other processes hardly affect on one thread.
"""

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.texts import in_one_line, tell

QUIET = 0.2  # cores that others may use while a block is measured
Measure = Callable[[int], dict[str, Any]]  # n -> ``work`` done in n units; ``seconds`` too if it timed itself
Pair = tuple[dict[str, Any], dict[str, Any]]  # the base's sample and, right after it, the contender's


@dataclass(frozen=True)
class Failure(Exception):
    """A contender that could not be built or run, with its own words."""

    reason: str


class Worker:
    """A contender in its own process: ``make(*arguments)`` there returns the function that does n units of work."""

    def __init__(self, make: Callable[..., Measure], *arguments: Any, threads: int):
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the child when it imports torch
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments, threads))
        self._process.start()
        theirs.close()

    def ask(self, n: int) -> dict[str, Any]:
        """Do n units of work: the answer, with ``seconds``, ``cpu_seconds`` and ``foreign`` (cores others used).

        Raises Failure with the contender's error.
        """
        try:
            self._pipe.send(n)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise Failure(f"its process ended (exit code {self._process.exitcode})") from None
        if "error" in answer:
            raise Failure(answer["error"])
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe: Any, make: Callable[..., Measure], arguments: tuple, threads: int) -> None:
    sys.stdout = sys.stderr  # frameworks talk; results go through the pipe
    measure = None
    while True:
        try:
            n = pipe.recv()
        except EOFError:
            return
        try:
            if measure is None:
                import torch

                torch.set_num_threads(threads)
                measure = make(*arguments)
            if n >= 10:
                measure(n // 10)  # wake threads and caches
            busy, cpu, wall = _busy_seconds(), time.process_time(), time.perf_counter()
            answer = measure(n)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            answer.setdefault("seconds", wall)
            answer.setdefault("cpu_seconds", cpu)
            answer["foreign"] = max(0.0, (_busy_seconds() - busy - cpu) / max(wall, 1e-3))
        except Exception as error:
            answer = {"error": in_one_line(error)}
        pipe.send(answer)


def compare(
    contenders: dict[str, tuple[Callable[..., Measure], tuple]],
    *,
    base: str,
    n_rounds: int,
    threads: int,
    patience: float,
    block_seconds: float,
    warm_up: int = 3,
) -> tuple[dict[str, list[Pair]], dict[str, str]]:
    """Every contender's samples, one a round, each with that of ``base`` before it; and who could not be built, why.

    ``contenders``: name -> (make, its arguments). A block lasts about ``block_seconds``; with 0 it is ``warm_up``
    units for every contender. ``patience``: seconds to wait for quiet before a pair. Raises Failure if ``base`` fails.
    """
    workers, n_units, failures = {}, {}, {}
    try:
        for name, (make, arguments) in contenders.items():
            workers[name] = worker = Worker(make, *arguments, threads=threads)
            try:
                worker.ask(warm_up)  # build, and warm up
                seconds = worker.ask(warm_up)["seconds"]
                n_units[name] = max(1, round(warm_up * block_seconds / seconds)) if block_seconds else warm_up
            except Failure as failure:
                if name == base:
                    raise Failure(f"{base}, with which all are compared: {failure.reason}") from None
                failures[name] = failure.reason
                tell(name, failure.reason)
        order, samples, shuffle = list(n_units), {name: [] for name in n_units}, random.Random(0).shuffle
        for i in range(n_rounds):
            shuffle(order)
            for name in order:
                pair = [(workers[base], n_units[base]), (workers[name], n_units[name])]
                samples[name].append(_measure(pair[-1:] if name == base else pair, patience))
            print(f"  round {i + 1}/{n_rounds}", file=sys.stderr, flush=True)
        return samples, failures
    finally:
        for worker in workers.values():
            worker.close()


def _measure(pair: list[tuple[Worker, int]], patience: float) -> Pair:
    """The base's sample and the contender's. What others disturbed is measured again, twice at most, and the least
    disturbed pair is kept."""
    tries = []
    while not tries or (patience and len(tries) < 3 and _disturbance(tries[-1]) > QUIET):
        wait_for_quiet(patience)
        samples = [worker.ask(n) for worker, n in pair]
        tries.append((samples[0], samples[-1]))
    return min(tries, key=_disturbance)


def _disturbance(pair: Pair) -> float:
    return max(sample["foreign"] for sample in pair)


def wait_for_quiet(patience: float) -> bool:
    """Wait, ``patience`` seconds at most, for half a second in which the whole machine uses under QUIET cores."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        busy, start = _busy_seconds(), time.monotonic()
        time.sleep(0.5)
        if (_busy_seconds() - busy) / (time.monotonic() - start) < QUIET:
            return True
    return False


def _busy_seconds() -> float:
    """CPU seconds all processes of this machine have used since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
