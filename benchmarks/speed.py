"""The benchmarks of speed: training, decoding, tokenizers."""

import sys
from collections.abc import Callable

from benchmarks import record, texts
from benchmarks.contenders import BASE, SPEED, make_step
from benchmarks.harness import Failure, Measure, compare
from benchmarks.peers.decoders import DECODERS, make_decode
from benchmarks.peers.models import SIZES
from benchmarks.peers.tokenizers import KINDS, TEXT, make_encoding, make_training
from benchmarks.summary import markdown, show, speeds

Contenders = dict[str, tuple[Callable[..., Measure], tuple]]


def train(size: str, settings: dict) -> bool:
    """Tokens per second of training; a block is ``settings["block_seconds"]`` long. False if nothing was measured."""
    contenders = {name: (make_step, (name, SIZES[size])) for name in SPEED}
    print(f"{size}: {SIZES[size]}", file=sys.stderr)
    return _run(f"train-{size}", contenders, base=BASE, unit="tokens/s", about=str(SIZES[size]), settings=settings)


def decode(text: str, settings: dict) -> bool:
    """Tokens per second of SmolLM2-135M at batch 1, 64 tokens after the prompt, and its bits per byte of ``text``.

    Without the text the speeds are measured all the same. False if nothing was measured.
    """
    if why := texts.problem(text):
        texts.tell("decode: bits per byte", why)
        text = None
    contenders = {name: (make_decode, (name, text)) for name in DECODERS}
    settings = {**settings, "block_seconds": 0, "warm_up": 64}
    about = (
        "SmolLM2-135M, batch 1, greedy, 64 tokens after a prompt of 22 (not counted: in fp16 torch reads many tokens "
        "at once on one core, and slowly)"
    )
    base = "transformers generate, bf16"
    return _run("decode", contenders, base=base, unit="tokens/s", about=about, text=text, settings=settings)


def tokenizers(settings: dict) -> bool:
    """Megabytes per second of training and encoding. False if nothing was measured."""
    if why := texts.problem(TEXT):
        texts.tell("tokenizers", why)
        return False
    about = "byte-level BPE, 2,000 merges learned on 1 MB of plays; encoding another megabyte, nothing remembered"
    settings = {**settings, "block_seconds": 0, "warm_up": 1}
    done = True
    for task, make in (("train", make_training), ("encode", make_encoding)):
        contenders = {kind: (make, (kind,)) for kind in KINDS}
        options = dict(base="tokenizers", unit="MB/s", about=about, text=TEXT, settings=settings)
        done &= _run(f"tokenizer-{task}", contenders, **options)
    return done


def _run(
    name: str, contenders: Contenders, *, base: str, unit: str, about: str, settings: dict, text: str | None = None
) -> bool:
    """Measure, print, and keep the result ``name`` if that is asked for; False if there is nothing to compare with."""
    settings = dict(settings)
    keep, only, clock = settings.pop("keep"), settings.pop("only"), settings.pop("clock")
    chosen = {key: value for key, value in contenders.items() if key == base or any(word in key for word in only)}
    try:
        samples, failures = compare(chosen, base=base, **settings)
    except Failure as failure:
        texts.tell(name, failure.reason)
        return False
    rows = speeds(samples, clock=clock)
    cells = [
        [r["name"], show(r["rate"], 2 if unit == "MB/s" else 0), show(r["ratio"], 2), f"{r['foreign']:.2f}"]
        for r in rows
    ]
    cells += [[key, reason, "–", "–"] for key, reason in failures.items()]
    print(markdown([name, unit, f"× {base}", "cores others used"], cells), end="\n\n", flush=True)
    if keep:
        data = {"about": about, "text": text, "base": base, "unit": unit, "clock": clock, "settings": settings}
        record.save(name, {**data, "rows": rows, "failures": failures, "samples": samples})
    return True
