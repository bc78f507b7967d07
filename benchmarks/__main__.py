"""``python -m benchmarks train --size small --rounds 3``: what is measured, and how long."""

import argparse
import sys

from benchmarks import training
from benchmarks.peers.trainers import CONTENDERS, SIZES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="training speed, tokens per second")
    train.add_argument("--size", choices=SIZES, action="append", help="default: all")
    train.add_argument("--only", help="contenders whose names hold one of these words, separated by commas")
    train.add_argument("--rounds", type=int, default=7)
    train.add_argument("--threads", type=int, default=2)
    train.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: the process's own time")
    train.add_argument("--seconds", type=float, default=1.0, help="how long one block is")
    train.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine; 0: never")
    arguments = parser.parse_args()
    words = arguments.only.split(",") if arguments.only else [""]
    names = [name for name in CONTENDERS if name == training.BASE or any(word in name for word in words)]
    training.main(
        names,
        sizes=arguments.size or list(SIZES),
        n_rounds=arguments.rounds,
        threads=arguments.threads,
        clock={"wall": "seconds", "cpu": "cpu_seconds"}[arguments.clock],
        block_seconds=arguments.seconds,
        patience=arguments.patience,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
