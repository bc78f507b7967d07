"""Who takes part in the training benchmarks, and how each is built in its own process."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.peers import models
from benchmarks.peers.loops import OurLoop, PeerLoop, TransformersTrainerLoop
from benchmarks.peers.models import Size
from llmbook.model import TransformerConfig
from llmbook.text import LMBatches
from llmbook.training import choose_runtime

Loop = OurLoop | PeerLoop | TransformersTrainerLoop
BASE = "nanoGPT-style, fp32"
ROPE = dict(positions="rope")
SAME = dict(feed_forward="gelu", bias=False)  # with these our GPT-2 preset computes what the yardstick does
NO_CONVS = dict(conv_width=None)
MUON = dict(optimizer="muon", lr=3e-3, muon_lr=0.02, beta2=0.95, weight_decay=0.0)
LATE = dict(schedule="trapezoid", min_lr_ratio=0.0)
ONCE = dict(replacement=False)


def _peer(build: Callable, *, bf16: bool = False) -> Callable[[Size, int], Loop]:
    return lambda size, steps: PeerLoop(*build(size), steps, bf16)


def _trainer(bf16: bool) -> Callable[[Size, int], Loop]:
    return lambda size, steps: TransformersTrainerLoop(models.transformers_gpt2(size)[0], size, bf16)


def _ours(
    preset: str = "gpt2",
    *,
    dtype: str | None = "float32",
    linear: str = "torch",
    attention: str = "sdpa",
    compiled: bool = False,
    parts: dict | None = None,
    replacement: bool = True,
    **recipe: Any,
) -> Callable[[Size, int], Loop]:
    def build(size: Size, steps: int) -> OurLoop:
        config = getattr(TransformerConfig, preset)(
            vocab_size=size.vocab_size, d_model=size.d_model, n_layers=size.n_layers, n_heads=size.n_heads,
            max_seq_len=size.seq_len, **(parts or {}),
        )  # fmt: skip
        runtime = dtype and replace(choose_runtime("cpu", dtype), linear=linear, attention=attention, compile=compiled)
        return OurLoop(config, runtime, steps, replacement, **recipe)

    return build


PEERS = {
    BASE: _peer(models.plain_gpt),
    "transformers GPT-2, fp32": _peer(models.transformers_gpt2),
    "transformers Llama, fp32": _peer(models.transformers_llama),
    "torch.nn.TransformerEncoder, fp32": _peer(models.torch_encoder),
    "x-transformers, fp32": _peer(models.x_transformers),
}
OURS = {
    "ours, nanoGPT's architecture, fp32": _ours(parts=SAME),
    "ours, nanoGPT's architecture, as chosen": _ours(dtype=None, parts=SAME),
    "ours, GPT-2, fp32": _ours(),
    "ours, GPT-2, as chosen": _ours(dtype=None),
    "ours, modern, fp32": _ours("modern", **MUON, **LATE, **ONCE),
    "ours, modern, as chosen": _ours("modern", dtype=None, **MUON, **LATE, **ONCE),
}
SPEED = {
    **PEERS,
    **OURS,
    "nanoGPT-style, compiled, fp32": _peer(models.compiled_plain_gpt),
    "nanoGPT-style, bf16": _peer(models.plain_gpt, bf16=True),
    "nanoGPT-style, compiled, bf16": _peer(models.compiled_plain_gpt, bf16=True),
    "transformers GPT-2, bf16": _peer(models.transformers_gpt2, bf16=True),
    "transformers Trainer, GPT-2, fp32": _trainer(bf16=False),
    "transformers Trainer, GPT-2, bf16": _trainer(bf16=True),
    "ours, nanoGPT's architecture, fp32, oneDNN": _ours(parts=SAME, linear="onednn"),
    "ours, nanoGPT's architecture, fp32, eager attention, compiled": _ours(
        parts=SAME, attention="eager", compiled=True
    ),
    "ours, nanoGPT's architecture, bf16": _ours(parts=SAME, dtype="bfloat16"),
    "ours, nanoGPT's architecture, bf16, eager attention": _ours(parts=SAME, dtype="bfloat16", attention="eager"),
}
RUNGS = {
    "ours, GPT-2, learning rate": _ours(dtype=None, lr=3e-3),
    "ours, GPT-2, RoPE": _ours(dtype=None, lr=3e-3, parts=ROPE),
    "ours, GPT-2, RoPE, Muon": _ours(dtype=None, parts=ROPE, **MUON),
    "ours, GPT-2, RoPE, Muon, late": _ours(dtype=None, parts=ROPE, **MUON, **LATE),
    "ours, GPT-2, RoPE, Muon, late, once": _ours(dtype=None, parts=ROPE, **MUON, **LATE, **ONCE),
    "ours, modern without convolutions": _ours("modern", dtype=None, parts=NO_CONVS, **MUON, **LATE, **ONCE),
}
LADDER = {  # each rung keeps what the one before it had
    "GPT-2 preset, nanoGPT's recipe": "ours, GPT-2, as chosen",
    "+ learning rate 3e-3": "ours, GPT-2, learning rate",
    "+ RoPE": "ours, GPT-2, RoPE",
    "+ Muon": "ours, GPT-2, RoPE, Muon",
    "+ a learning rate that falls late, to 0": "ours, GPT-2, RoPE, Muon, late",
    "+ every window once an epoch": "ours, GPT-2, RoPE, Muon, late, once",
    "+ RMSNorm, ReLU², QK-norm, zero-init, no biases": "ours, modern without convolutions",
    "+ short convolutions (`modern`)": "ours, modern, as chosen",
}
QUALITY = {**PEERS, **OURS, **RUNGS}


def make_step(name: str, size: Size) -> Callable[[int], dict]:
    """In a worker: a contender on random tokens; the function takes n steps and says how many tokens that were."""
    torch.manual_seed(0)
    loop = SPEED[name](size, 1_000_000)
    tokens = torch.randint(size.vocab_size, (100_000,))
    batches = LMBatches(tokens, batch_size=size.batch_size, seq_len=size.seq_len)

    def measure(n: int) -> dict:
        said = loop.run(batches, n) or {}
        return {"work": n * size.tokens_per_step, **said}

    return measure
