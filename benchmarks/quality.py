"""Validation loss by characters of a text: at equal tokens, at equal time, and rung by rung.

Equal tokens: 2,000 steps of 12 windows of 64. Equal time: as many steps as the contender takes while nanoGPT-style
takes its 2,000, by the speeds measured at this size (``train-small``), its schedule stretched to fit. The loss runs
over the whole validation tenth, every character predicted once, in float32. Runs are single-threaded, one for each
core; how long they take does not matter.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from statistics import mean

import torch
import torch.nn.functional as F

from benchmarks import record, texts
from benchmarks.contenders import BASE, LADDER, OURS, PEERS, QUALITY
from benchmarks.peers.models import SIZES
from benchmarks.summary import markdown, show, spread
from llmbook import results
from llmbook.text import CharTokenizer, LMBatches, eval_windows, load_corpus

STEPS = 2000
SIZE = SIZES["small"]


def train_once(name: str, seed: int, steps: int, text: str) -> dict:
    """In a process of its own: train a contender on the corpus ``text`` and measure it, or say why it could not be."""
    try:
        return _train_once(name, seed, steps, text)
    except Exception as error:
        return {"name": name, "error": texts.in_one_line(error)}


def _train_once(name: str, seed: int, steps: int, text: str) -> dict:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    train_text, valid_text = load_corpus(text).split(valid=0.1)
    tokenizer = CharTokenizer.train(train_text + valid_text)  # the alphabet of both, as everybody's preparation has
    tokens, valid = (torch.tensor(tokenizer.encode(part)) for part in (train_text, valid_text))
    size = replace(SIZE, vocab_size=tokenizer.vocab_size)
    loop = QUALITY[name](size, steps)
    batches = LMBatches(
        tokens, batch_size=size.batch_size, seq_len=size.seq_len, seed=seed, vocab_size=size.vocab_size,
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
    result = {"name": name, "seed": seed, "steps": steps, "text": text, "loss": total / count, "scored": count}
    return {**result, "cpu_seconds": seconds, **said}


def run(*, only: list[str], n_seeds: int, steps: int, text: str, keep: bool) -> bool:
    """Train what is asked for, print the tables; ``keep`` puts new runs in the place of the recorded ones.

    False if nothing was trained. Raises ValueError where kept runs read another text: the table would compare losses
    that cannot be compared.
    """
    recorded = record.load("quality") or {"text": text, "runs": []}
    if keep and recorded["text"] != text:
        raise ValueError(
            f"benchmarks/results/quality.json was measured on {recorded['text']}: add --text {recorded['text']}, or "
            f"delete the file to begin again on {text}"
        )
    if why := texts.problem(text):
        texts.tell("quality", why)
        return False
    names = [name for name in QUALITY if any(word in name for word in only)]
    jobs = [(name, seed, steps, text) for seed in range(n_seeds) for name in names]
    paces = equal_time_steps(record.load("train-small"), steps)
    jobs += [(name, seed, paces[name], text) for seed in range(n_seeds) for name in names if name in paces]
    context = multiprocessing.get_context("spawn")
    runs, failures = [], {}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(train_once, *job) for job in jobs]):
            done = future.result()
            if "error" in done:
                failures[done["name"]] = done["error"]
                continue
            runs.append(done)
            print("  {name}, seed {seed}, {steps} steps: {loss:.4f}".format(**done), file=sys.stderr, flush=True)
    for name, why in failures.items():
        texts.tell(name, why)
    if not runs:
        return False
    if keep:
        fresh = {(r["name"], r["steps"] == steps) for r in runs}
        runs = [r for r in recorded["runs"] if (r["name"], r["steps"] == steps) not in fresh] + runs
        record.save("quality", {"about": f"{text}, {SIZE}", "text": text, "steps": steps, "runs": runs})
        publish_ladder(runs, steps, text)
    print("\n\n".join(tables({"steps": steps, "text": text, "runs": runs})))
    return True


def equal_time_steps(speeds: dict | None, steps: int) -> dict[str, int]:
    """How many steps each contender takes in the time BASE takes for ``steps``; empty if the speeds are unknown."""
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
        markdown([f"validation loss on {result['text']}", "equal tokens", "equal time"], rows),
        markdown(["from GPT-2 to `modern`", f"loss on {result['text']}", "change"], ladder),
    ]


def rungs_of(runs: list[dict], steps: int) -> list[tuple[str, list[float]]]:
    """The ladder's rungs that have been run for ``steps``, with the losses of their seeds."""
    losses = _losses(r for r in runs if r["steps"] == steps)
    return [(label, losses[name]) for label, name in LADDER.items() if name in losses]


def publish_ladder(runs: list[dict], steps: int, text: str) -> None:
    """Hand the ladder to the chapter that shows it, as a recorded run."""
    command = "python -m benchmarks quality --keep"
    about = f"{text}, {SIZE}"
    results.record("ladder", {"about": about, "steps": steps, "rungs": rungs_of(runs, steps)}, command=command)


def _losses(runs: Iterable[dict]) -> dict[str, list[float]]:
    by_name: dict[str, list[float]] = {}
    for r in runs:
        by_name.setdefault(r["name"], []).append(r["loss"])
    return by_name
