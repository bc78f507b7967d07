"""What one GPU does with the book's models, each figure beside the limit of the machine, which is measured as well.

    train    GPT-2 of 124 M, compiled: tokens/s, and its share of the fastest product of two matrices here
    decode   a Llama of 135 M (SmolLM2's shape), batch 1: tokens/s, and its share of what reading the weights allows
    learn    10.7 M on a text: the validation loss over every character of the last tenth, and the time it takes; on
             tinyshakespeare (``--text``) the time to 1.47, which nanoGPT publishes

The precision is the one the card multiplies natively: bfloat16, on older cards float16. ``python -m benchmarks gpu
--keep`` on a machine with CUDA; ``--device cpu --toy`` tries every line at a size that takes seconds and means nothing.
Weights of ``decode`` are random: a token costs the same.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median

import torch
from torch import nn

from benchmarks import record, texts
from benchmarks.summary import markdown
from llmbook.inference import fuse, stream_tokens
from llmbook.model import DecoderLM, TransformerConfig, evaluating
from llmbook.text import CharTokenizer, LMBatches, eval_windows, load_corpus
from llmbook.training import (
    Callback,
    RunState,
    Runtime,
    TrainConfig,
    Trainer,
    causal_lm_loss,
    choose_runtime,
    train_step,
)
from llmbook.training.optim import adamw

GOALS = {"tinyshakespeare": 1.47}  # nats a character that others publish for this model


@dataclass(frozen=True)
class Sizes:
    """How large everything is: the real sizes, or toys."""

    gpt2: dict
    batch_size: int
    llama: dict
    new_tokens: int
    matrix: tuple[int, ...]  # widths of the square matrices that are tried for the peak
    copy: int  # numbers moved to measure the bandwidth
    learner: dict
    learner_batch: int
    steps: int
    rounds: int


REAL = Sizes(
    gpt2=dict(vocab_size=50_304, bias=False),  # 47 unused tokens: a multiple of 64 for the matrix units
    batch_size=16,
    llama={},
    new_tokens=256,
    matrix=(4096, 8192, 16_384),
    copy=2**30,
    learner=dict(max_seq_len=256, d_model=384, n_layers=6, n_heads=6, bias=False, dropout=0.2),
    learner_batch=64,
    steps=5000,
    rounds=20,
)
TOY = Sizes(
    gpt2=dict(vocab_size=101, max_seq_len=16, d_model=16, n_layers=2, n_heads=2, bias=False),
    batch_size=2,
    llama=dict(vocab_size=101, max_seq_len=64, d_model=24, n_layers=2, n_heads=3, n_kv_heads=1, d_ff=32),
    new_tokens=6,
    matrix=(64,),
    copy=2**12,
    learner=dict(max_seq_len=16, d_model=16, n_layers=1, n_heads=2, bias=False),
    learner_batch=4,
    steps=6,
    rounds=2,
)


def run(
    *,
    device: str = "auto",
    toy: bool = False,
    keep: bool = False,
    compile: bool = True,
    only: list[str],
    text: str = texts.DEFAULT,
) -> dict:
    """Measure what ``only`` names, print a table, and with ``keep`` record it; ``text`` is what ``learn`` reads.

    Without the text ``learn`` is left out, in one line. Raises ValueError without a GPU.
    """
    runtime = choose_runtime(device)
    if runtime.device.type != "cuda" and not toy:
        raise ValueError(f"{runtime}: these figures are a GPU's; --device cpu --toy tries the program without one")
    if toy and keep:
        raise ValueError("--toy measures nothing worth keeping: leave out one of --toy and --keep")
    sizes, found = TOY if toy else REAL, {}
    parts = {"train": train, "decode": decode, "learn": partial(learn, text=text)}
    parts = {name: measure for name, measure in parts.items() if any(word in name for word in only)}
    if "learn" in parts and (why := texts.problem(text)):
        texts.tell("learn", why)
        del parts["learn"]
    for name, measure in parts.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        found[name] = measure(runtime, sizes, compile=compile)
        print(json.dumps(found[name]), file=sys.stderr, flush=True)
    print(table(found), flush=True)
    result = {"device": describe(runtime.device), "about": str(runtime), "sizes": asdict(sizes), **found}
    if keep:
        record.save("gpu", result)
    return result


def train(runtime: Runtime, sizes: Sizes, *, compile: bool) -> dict:
    """Whole steps of GPT-2, optimiser included, against the peak of products alone."""
    torch.manual_seed(0)
    config = TransformerConfig.gpt2(**sizes.gpt2)
    model = DecoderLM(config).to(runtime.device)
    called = torch.compile(model) if compile else model
    optimizer, scaler = adamw(model, lr=1e-4), runtime.grad_scaler()
    shape = (sizes.batch_size, config.max_seq_len + 1)
    batch = {"input_ids": torch.randint(config.vocab_size, shape, device=runtime.device)}
    options = dict(objective=causal_lm_loss, optimizer=optimizer, scaler=scaler, runtime=runtime, clip_norm=1.0)
    seconds = timed(lambda: train_step(called, [batch], **options), runtime.device, rounds=sizes.rounds)
    n_tokens = sizes.batch_size * config.max_seq_len
    flops, peak = flops_per_token(model) * n_tokens / seconds, matrix_peak(runtime, sizes)
    return {
        "parameters": model.num_parameters(), "tokens_per_second": n_tokens / seconds, "flops_per_second": flops,
        "matrix_peak": peak, "fraction": flops / peak, "compiled": compile, "dtype": _name(runtime.dtype),
    }  # fmt: skip


def decode(runtime: Runtime, sizes: Sizes, *, compile: bool) -> dict:
    """Token after token at batch 1. Every weight is read once a token, and little else: reading sets the limit."""
    torch.manual_seed(0)
    model = DecoderLM(TransformerConfig.llama(**sizes.llama)).to(runtime.device, runtime.dtype)
    n_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    bytes_per_second = bandwidth(runtime.device, sizes)
    limit, found = bytes_per_second / n_bytes, {}
    for name, writer in (("plain", model), ("fused", fuse(model))):
        prompt = torch.randint(model.config.vocab_size, (1, 8), device=runtime.device)

        def write(writer: nn.Module = writer, prompt: torch.Tensor = prompt) -> None:
            with evaluating(writer):
                for _ in stream_tokens(writer, prompt, max_new_tokens=sizes.new_tokens, temperature=0):
                    pass

        seconds = timed(write, runtime.device, rounds=min(sizes.rounds, 5))
        rate = sizes.new_tokens / seconds
        found[name] = {"tokens_per_second": rate, "fraction": rate / limit}
    limits = {"bytes_per_token": n_bytes, "bytes_per_second": bytes_per_second, "limit": limit}
    return {**limits, "dtype": _name(runtime.dtype), **found}


def learn(runtime: Runtime, sizes: Sizes, *, compile: bool, text: str) -> dict:
    """A run of nanoGPT's size and length; how long until its validation loss is at the goal, and where it ends."""
    torch.manual_seed(0)
    train_text, valid_text = load_corpus(text).split(valid=0.1)
    tokenizer = CharTokenizer.train(train_text + valid_text)
    seq_len = sizes.learner["max_seq_len"]
    valid_ids = tokenizer.encode(valid_text)[: None if sizes is REAL else 200]
    batches = LMBatches(tokenizer.encode(train_text), batch_size=sizes.learner_batch, seq_len=seq_len, seed=0)
    model = DecoderLM(TransformerConfig.gpt2(vocab_size=tokenizer.vocab_size, **sizes.learner))
    every, warmup = max(1, sizes.steps // 40), min(100, sizes.steps // 2)
    config = TrainConfig(steps=sizes.steps, lr=1e-3, beta2=0.99, warmup_steps=warmup, eval_every=every, compile=compile)
    clock = Clock()
    options = dict(valid_batches=list(eval_windows(valid_ids, batch_size=128, seq_len=seq_len)), callbacks=[clock])
    history = Trainer(model, batches, config, runtime=runtime, **options).run()
    goal = GOALS.get(text)
    looks = zip(clock.seconds, history.valid_loss, strict=True)
    reached = [s for s, loss in looks if goal is not None and loss <= goal]
    return {
        "parameters": model.num_parameters(), "steps": sizes.steps, "best_valid_loss": min(history.valid_loss),
        "text": text, "goal": goal, "seconds_to_goal": reached[0] if reached else None, "seconds": clock.seconds[-1],
        "valid_steps": history.valid_steps, "valid_loss": history.valid_loss,
    }  # fmt: skip


class Clock(Callback):
    """The seconds since the start at every evaluation, compilation and earlier evaluations included."""

    def __init__(self) -> None:
        self.start, self.seconds = time.perf_counter(), []

    def on_start(self, run: RunState) -> None:
        self.start = time.perf_counter()

    def on_evaluate(self, run: RunState, step: int) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def flops_per_token(model: DecoderLM) -> float:
    """6 for every weight of a product, 12 · L · T · C for the scores and their values, as PaLM counts them (appendix B
    of https://arxiv.org/abs/2204.02311). Tables that are looked up multiply nothing; a tied one does as the head."""
    config = model.config
    positions = model.backbone.embeddings.positions
    looked_up = 0 if positions is None else sum(p.numel() for p in positions.parameters())
    if not config.tie_embeddings:
        looked_up += model.backbone.embeddings.tokens.weight.numel()
    weights = sum(p.numel() for p in model.parameters()) - looked_up
    return 6 * weights + 12 * config.n_layers * config.max_seq_len * config.n_heads * config.d_head


def matrix_peak(runtime: Runtime, sizes: Sizes) -> float:
    """The most operations a second that a product of two square matrices reaches, in the precision of the run."""
    best = 0.0
    for n in sizes.matrix:
        a, b = (torch.randn(n, n, device=runtime.device, dtype=runtime.dtype) for _ in range(2))
        out = torch.empty_like(a)
        best = max(best, 2 * n**3 / timed(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), runtime.device))
    return best


def bandwidth(device: torch.device, sizes: Sizes) -> float:
    """Bytes a second through the memory: a copy reads each once and writes it once."""
    source = torch.zeros(sizes.copy, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / timed(lambda: target.copy_(source), device)


def timed(work: Callable[[], object], device: torch.device, *, rounds: int = 20) -> float:
    """The median of its seconds, after three that are not counted; a GPU is waited for before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds = []
    for i in range(rounds + 3):
        wait()
        start = time.perf_counter()
        work()
        wait()
        if i >= 3:
            seconds.append(time.perf_counter() - start)
    return median(seconds)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def describe(device: torch.device) -> str:
    """The name of the device, as results say it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else record.processor()


def table(found: dict) -> str:
    """The figures as Markdown, each beside its limit."""
    rows = []
    if result := found.get("train"):
        share = f"{result['fraction']:.0%} of {result['matrix_peak'] / 1e12:.3g} TFLOP/s"
        rows.append([f"training GPT-2 124M, {result['dtype']}", f"{result['tokens_per_second']:,.0f} tokens/s", share])
    if result := found.get("decode"):
        for name in ("plain", "fused"):
            share = f"{result[name]['fraction']:.0%} of {result['limit']:,.0f}"
            what = f"decoding, 135M, batch 1, {result['dtype']}, {name}"
            rows.append([what, f"{result[name]['tokens_per_second']:,.0f} tokens/s", share])
    if result := found.get("learn"):
        goal, reached = result["goal"], result["seconds_to_goal"]
        when = f"loss {goal} after {reached:.0f} s" if reached else f"loss {goal} not reached"
        best = f"loss {result['best_valid_loss']:.3f} at best, {result['seconds']:.0f} s"
        rows.append([f"{result['text']}, 10.7M", when if goal else best, best if goal else "–"])
    return markdown(["on a GPU", "measured", "of the machine's limit"], rows)
