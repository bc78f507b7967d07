"""The benchmarks of speed: training, decoding, tokenizers."""

import sys
from collections.abc import Callable

from benchmarks import record
from benchmarks.contenders import BASE, SPEED, make_step
from benchmarks.harness import Measure, compare
from benchmarks.peers.decoders import DECODERS, make_decode
from benchmarks.peers.models import SIZES
from benchmarks.peers.tokenizers import KINDS, make_encoding, make_training
from benchmarks.summary import markdown, show, speeds

Contenders = dict[str, tuple[Callable[..., Measure], tuple]]


def train(size: str, settings: dict) -> None:
    """Tokens per second of training; a block is ``settings["block_seconds"]`` long."""
    contenders = {name: (make_step, (name, SIZES[size])) for name in SPEED}
    print(f"{size}: {SIZES[size]}", file=sys.stderr)
    _run(f"train-{size}", contenders, base=BASE, unit="tokens/s", about=str(SIZES[size]), settings=settings)


def decode(settings: dict) -> None:
    """Tokens per second of SmolLM2-135M at batch 1, 64 tokens after the prompt."""
    contenders = {name: (make_decode, (name,)) for name in DECODERS}
    settings = {**settings, "block_seconds": 0, "warm_up": 64}
    about = (
        "SmolLM2-135M, batch 1, greedy, 64 tokens after a prompt of 22 (not counted: in fp16 torch reads many tokens "
        "at once on one core, and slowly)"
    )
    _run("decode", contenders, base="transformers generate, bf16", unit="tokens/s", about=about, settings=settings)


def tokenizers(settings: dict) -> None:
    """Megabytes per second of training and encoding."""
    about = "byte-level BPE, 2,000 merges learned on 1 MB of plays; encoding another megabyte, nothing remembered"
    settings = {**settings, "block_seconds": 0, "warm_up": 1}
    for task, make in (("train", make_training), ("encode", make_encoding)):
        contenders = {kind: (make, (kind,)) for kind in KINDS}
        _run(f"tokenizer-{task}", contenders, base="tokenizers", unit="MB/s", about=about, settings=settings)


def _run(name: str, contenders: Contenders, *, base: str, unit: str, about: str, settings: dict) -> None:
    """Measure, print, and keep the result ``name`` if that is asked for."""
    settings = dict(settings)
    keep, only, clock = settings.pop("keep"), settings.pop("only"), settings.pop("clock")
    chosen = {key: value for key, value in contenders.items() if key == base or any(word in key for word in only)}
    samples, failures = compare(chosen, base=base, **settings)
    rows = speeds(samples, clock=clock)
    cells = [
        [r["name"], show(r["rate"], 2 if unit == "MB/s" else 0), show(r["ratio"], 2), f"{r['foreign']:.2f}"]
        for r in rows
    ]
    cells += [[key, reason, "–", "–"] for key, reason in failures.items()]
    print(markdown([name, unit, f"× {base}", "cores others used"], cells), end="\n\n", flush=True)
    if keep:
        data = {"about": about, "base": base, "unit": unit, "clock": clock, "settings": settings}
        record.save(name, {**data, "rows": rows, "failures": failures, "samples": samples})
