"""Byte-level BPE with 2,000 merges on one megabyte of plays: the book's readable one and Rust's ``tokenizers``.

Both learn the same merges (the tests of the library say so), so only the time differs.
"""

import os
import time
from collections.abc import Callable

import torch

from benchmarks.texts import DEFAULT
from llmbook.text import BPETokenizer, HFTokenizer, load_corpus

MEGABYTE = 1_000_000
VOCAB_SIZE = 256 + 2000
TEXT = DEFAULT  # two megabytes are needed
KINDS = {"ours": BPETokenizer, "tokenizers": HFTokenizer}


def make_training(kind: str) -> Callable[[int], dict]:
    os.environ["RAYON_NUM_THREADS"] = str(torch.get_num_threads())
    text, _ = _texts()

    def measure(n: int) -> dict:
        for _ in range(n):
            KINDS[kind].train(text, vocab_size=VOCAB_SIZE)
        return {"work": n}

    return measure


def make_encoding(kind: str) -> Callable[[int], dict]:
    """A megabyte not trained on; a fresh copy each time, because both remember the words they have seen."""
    text, unseen = _texts()
    state = KINDS[kind].train(text, vocab_size=VOCAB_SIZE).to_dict()

    def measure(n: int) -> dict:
        wall = cpu = 0.0
        for _ in range(n):
            tokenizer = KINDS[kind].from_dict(state)
            start, start_cpu = time.perf_counter(), time.process_time()
            n_tokens = len(tokenizer.encode(unseen))
            wall, cpu = wall + time.perf_counter() - start, cpu + time.process_time() - start_cpu
        return {"work": n, "seconds": wall, "cpu_seconds": cpu, "n_tokens": n_tokens}

    return measure


def _texts() -> tuple[str, str]:
    text = load_corpus(TEXT).text.encode()
    pieces = (text[:MEGABYTE], text[MEGABYTE : 2 * MEGABYTE])
    return tuple(piece.decode(errors="ignore") for piece in pieces)
