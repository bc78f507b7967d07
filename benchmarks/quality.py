"""Validation loss on tinyshakespeare, by characters: at equal tokens, at equal time, and rung by rung.

Equal tokens: 2,000 steps of 12 windows of 64. Equal time: as many steps as the contender takes while nanoGPT-style
takes its 2,000, by the speeds measured at this size (``train-small``), its schedule stretched to fit. The loss runs
over the whole validation tenth, every character predicted once, in float32. Runs are single-threaded, one for each
core; how long they take decides nothing.
"""

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from statistics import mean

import torch
import torch.nn.functional as F

from benchmarks import record
from benchmarks.contenders import BASE, LADDER, OURS, PEERS, QUALITY
from benchmarks.peers.models import SIZES
from benchmarks.summary import markdown, show, spread
from llmbook import results
from llmbook.text import CharTokenizer, LMBatches, eval_windows, load_corpus

STEPS = 2000
SIZE = SIZES["small"]


def train_once(name: str, seed: int, steps: int) -> dict:
    """In a process of its own: train a contender and measure it."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    train_text, valid_text = load_corpus("tinyshakespeare").split(valid=0.1)
    tokenizer = CharTokenizer.train(train_text + valid_text)  # the alphabet of both, as everybody's preparation has
    tokens, valid = (torch.tensor(tokenizer.encode(text)) for text in (train_text, valid_text))
    loop = QUALITY[name](SIZE, steps)
    batches = LMBatches(
        tokens, batch_size=SIZE.batch_size, seq_len=SIZE.seq_len, seed=seed, vocab_size=SIZE.vocab_size,
        replacement=loop.replacement,
    )  # fmt: skip
    start = time.process_time()
    said = loop.run(batches, steps) or {}
    seconds = time.process_time() - start
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in eval_windows(valid, batch_size=64, seq_len=SIZE.seq_len):
            targets = batch["labels"][:, 1:].flatten()
            logits = loop.logits(batch["input_ids"][:, :-1]).flatten(0, 1).float()
            total += F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum").item()
            count += int((targets != -100).sum())
    result = {"name": name, "seed": seed, "steps": steps, "loss": total / count, "scored": count}
    return {**result, "cpu_seconds": seconds, **said}


def run(*, only: list[str], n_seeds: int, steps: int, keep: bool) -> None:
    """Train what is asked for, print the tables; ``keep`` puts new runs in the place of the recorded ones."""
    names = [name for name in QUALITY if any(word in name for word in only)]
    jobs = [(name, seed, steps) for seed in range(n_seeds) for name in names]
    paces = equal_time_steps(record.load("train-small"), steps)
    jobs += [(name, seed, paces[name]) for seed in range(n_seeds) for name in names if name in paces]
    context = multiprocessing.get_context("spawn")
    runs = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(train_once, *job) for job in jobs]):
            runs.append(future.result())
            print("  {name}, seed {seed}, {steps} steps: {loss:.4f}".format(**runs[-1]), file=sys.stderr, flush=True)
    if keep:
        fresh = {(r["name"], r["steps"] == steps) for r in runs}
        kept = (record.load("quality") or {"runs": []})["runs"]
        runs = [r for r in kept if (r["name"], r["steps"] == steps) not in fresh] + runs
        record.save("quality", {"about": f"tinyshakespeare, {SIZE}", "steps": steps, "runs": runs})
        publish_ladder(runs, steps)
    print("\n\n".join(tables({"steps": steps, "runs": runs})))


def equal_time_steps(speeds: dict | None, steps: int) -> dict[str, int]:
    """How many steps each contender takes in the time BASE takes for ``steps``; nobody if speeds are unknown."""
    rows = [] if speeds is None else speeds["rows"]
    wanted = {*PEERS, *OURS} - {BASE}
    return {row["name"]: round(steps * row["ratio"]["median"]) for row in rows if row["name"] in wanted}


def tables(result: dict) -> list[str]:
    """Losses of the contenders at equal tokens and equal time, and the ladder."""
    steps = result["steps"]
    equal_tokens = _losses(r for r in result["runs"] if r["steps"] == steps)
    equal_time = _losses(r for r in result["runs"] if r["steps"] != steps)
    equal_time[BASE] = equal_tokens.get(BASE, [])
    rows = [
        [name, *(show(spread(by[name]), 3) if by.get(name) else "–" for by in (equal_tokens, equal_time))]
        for name in (*PEERS, *OURS)
        if name in equal_tokens
    ]
    rungs = rungs_of(result["runs"], steps)
    ladder = [
        [label, show(spread(losses), 3), f"{mean(losses) - mean(rungs[i - 1][1]):+.3f}" if i else "–"]
        for i, (label, losses) in enumerate(rungs)
    ]
    return [
        markdown(["validation loss", "equal tokens", "equal time"], rows),
        markdown(["from GPT-2 to `modern`", "loss", "change"], ladder),
    ]


def rungs_of(runs: list[dict], steps: int) -> list[tuple[str, list[float]]]:
    """The ladder's rungs that have been run for ``steps``, with the losses of their seeds."""
    losses = _losses(r for r in runs if r["steps"] == steps)
    return [(label, losses[name]) for label, name in LADDER.items() if name in losses]


def publish_ladder(runs: list[dict], steps: int) -> None:
    """Hand the ladder to the chapter that shows it, as a recorded run."""
    command = "python -m benchmarks quality --keep"
    results.record(
        "ladder", {"about": f"tinyshakespeare, {SIZE}", "steps": steps, "rungs": rungs_of(runs, steps)}, command=command
    )


def _losses(runs) -> dict[str, list[float]]:
    by_name: dict[str, list[float]] = {}
    for r in runs:
        by_name.setdefault(r["name"], []).append(r["loss"])
    return by_name
