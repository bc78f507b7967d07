"""``python -m benchmarks train --size small --rounds 3``: what is measured, and how long."""

import argparse
import os
import sys

from benchmarks import environment, texts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=("all", "train", "quality", "decode", "tokenizers", "gpu", "table", "chapters"))
    parser.add_argument("--size", choices=("small", "larger"), help="of the models trained; default: both")
    parser.add_argument("--only", action="append", help="contenders whose names hold this; may be given again")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: the process's own time")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a block of training is")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine; 0: never")
    parser.add_argument("--seeds", type=int, default=3, help="of every training run (quality)")
    parser.add_argument("--steps", type=int, default=2000, help="of a training run (quality)")
    parser.add_argument("--text", default=texts.DEFAULT, help="what quality, decode and gpu read")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results and the README's table")
    parser.add_argument("--device", default="auto", help="gpu: where; cpu only with --toy")
    parser.add_argument("--toy", action="store_true", help="gpu: at sizes that only try the program")
    parser.add_argument("--eager", action="store_true", help="gpu: without torch.compile")
    parser.add_argument("--count", type=int, nargs="+", default=[60], help="chapters: notebooks of the longer book")
    parser.add_argument("--to", type=int, help="chapters: the length that a straight line through two counts is for")
    parser.add_argument("--command", default=".ci/run", help="chapters: what is timed there")
    arguments = parser.parse_args()
    if arguments.what == "chapters":  # the book's own environment
        return _chapters(arguments)
    if arguments.what == "gpu":  # no peers, and no other environment
        return _gpu(arguments)
    if arguments.what != "table":
        environment.enter()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # these are figures for a CPU
    from benchmarks import quality, speed, table

    only = arguments.only or [""]
    settings = dict(
        keep=arguments.keep, only=only, clock="seconds" if arguments.clock == "wall" else "cpu_seconds",
        n_rounds=arguments.rounds, threads=arguments.threads, patience=arguments.patience,
        block_seconds=arguments.seconds,
    )  # fmt: skip
    wanted = ("train", "quality", "decode", "tokenizers") if arguments.what == "all" else (arguments.what,)
    done = True
    try:
        if "train" in wanted:
            for size in [arguments.size] if arguments.size else ["small", "larger"]:
                done &= speed.train(size, settings)
        if "quality" in wanted:
            counts = dict(n_seeds=arguments.seeds, steps=arguments.steps)
            done &= quality.run(only=only, text=arguments.text, keep=arguments.keep, **counts)
        if "decode" in wanted:
            done &= speed.decode(arguments.text, settings)
        if "tokenizers" in wanted:
            done &= speed.tokenizers(settings)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.keep or arguments.what == "table":
        table.rewrite()
    return 0 if done else 1


def _chapters(arguments: argparse.Namespace) -> int:
    from benchmarks import chapters

    try:
        return chapters.run(arguments.count, to=arguments.to, command=arguments.command)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _gpu(arguments: argparse.Namespace) -> int:
    from benchmarks import gpu, table

    wishes = dict(device=arguments.device, toy=arguments.toy, keep=arguments.keep, compile=not arguments.eager)
    wishes["text"] = arguments.text
    try:
        gpu.run(**wishes, only=arguments.only or [""])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.keep:
        table.rewrite()
    return 0


if __name__ == "__main__":
    sys.exit(main())
