"""Training speed: tokens per second, ours beside the peers'."""

import sys
from collections.abc import Sequence

from benchmarks.harness import Failure, Worker, rounds
from benchmarks.peers.trainers import SIZES, make_step
from benchmarks.summary import markdown, show, speeds

BASE = "nanoGPT-style, fp32"


def measure(
    names: Sequence[str], *, size: str, n_rounds: int, threads: int, clock: str, block_seconds: float, patience: float
) -> dict:
    """Tokens per second of the contenders ``names`` at ``size``; who fails is left out and named."""
    workers, n_steps, failures = [], {}, {}
    for name in names:
        worker = Worker(name, make_step, name, SIZES[size], threads=threads)
        try:
            worker.ask(3)  # build and warm
            warm = worker.ask(3)
        except Failure as failure:
            failures[name] = failure.reason
            worker.close()
            continue
        n_steps[name] = max(2, round(3 * block_seconds / warm["seconds"]))
        workers.append(worker)
    samples = rounds(workers, n_steps, n_rounds=n_rounds, patience=patience)
    for worker in workers:
        worker.close()
    tokens = {name: n * SIZES[size].tokens_per_step for name, n in n_steps.items()}
    return {
        "rows": speeds(samples, tokens, base=BASE, clock=clock),
        "samples": samples,
        "tokens": tokens,
        "failures": failures,
    }


def main(names: Sequence[str], *, sizes: Sequence[str], **settings) -> None:
    for size in sizes:
        print(f"{size}: {SIZES[size]}, {settings['threads']} threads, {settings['clock']}", file=sys.stderr)
        result = measure(names, size=size, **settings)
        rows = [
            [row["name"], show(row["rate"], 0), show(row["ratio"], 2), f"{row['foreign']:.2f}"]
            for row in result["rows"]
        ]
        print(markdown(["contender", "tokens/s", f"× {BASE}", "cores others used"], rows))
        for name, reason in result["failures"].items():
            print(f"{name}: {reason}")
