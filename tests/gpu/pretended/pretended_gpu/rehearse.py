"""A run of full size with its training cut short, and what the whole of it would cost on a GPU.

    PRETENDED_GPU_STEPS=3     every Trainer takes three steps, and of the others only counts what they would cost; of
                              the sums in a product of matrices the first term alone is taken: shapes are right, and
                              numbers are not
    PRETENDED_GPU_REPORT=DIR  at its end each process writes there what it counted, as JSON

Seconds are estimates: for each operator the longest of three times, that of starting it, of moving its bytes and of its
multiplications, from what a card reaches in practice (``Card.limits``); to which comes what the program did besides.
"""

import atexit
import ctypes
import json
import os
import time
from pathlib import Path

from pretended_gpu import CARDS

N_FIRST = 4  # numbers before the seconds of the cards


class Costs:
    """What the compiled part has counted so far."""

    def __init__(self, library: ctypes.CDLL):
        self.library = library
        for card in CARDS.values():
            library.pretend_card(*map(ctypes.c_double, card.limits))

    def read(self) -> list[float]:
        """Operators, bytes, multiplications and additions, seconds of the CPU's kernels; seconds of each card."""
        numbers = (ctypes.c_double * (N_FIRST + len(CARDS)))()
        self.library.pretend_costs(numbers)
        return list(numbers)

    def add(self, more: list[float]) -> None:
        self.library.pretend_add_costs((ctypes.c_double * len(more))(*more))


def report_at_exit(costs: Costs, folder: Path) -> None:
    """Let this process write what it counted when it ends."""
    costs.library.pretend_most.restype = ctypes.c_int64
    begun = time.process_time()

    def write() -> None:
        calls, n_bytes, flops, here, *seconds = costs.read()
        besides = time.process_time() - begun - here
        found = {
            "operators": calls, "bytes": n_bytes, "flops": flops, "memory": costs.library.pretend_most(),
            "seconds": {name: besides + value for name, value in zip(CARDS, seconds, strict=True)}, "besides": besides,
        }  # fmt: skip
        (folder / f"{os.getpid()}.json").write_text(json.dumps(found), encoding="utf-8")

    atexit.register(write)


def cut(trainer: type, costs: Costs, n_steps: int) -> None:
    """Let every ``trainer`` take ``n_steps`` steps of each run, and count the last of them for all that follow."""
    take = trainer._advance

    def advance(self) -> None:
        taken, cost, result = getattr(self, "_rehearsed", (0, None, None))
        if taken < n_steps:
            before = costs.read()
            take(self)
            cost = [after - b for after, b in zip(costs.read(), before, strict=True)]
            self._rehearsed = (taken + 1, cost, self._unread.steps[-1])
            return
        costs.add(cost)
        self.state.step += 1
        self._unread.steps.append((self.step, *result[1:]))

    trainer._advance = advance
