"""Serve a model: ``python -m llmbook.inference.server --model smollm2 --port 8000``. Ends at Ctrl-C or SIGTERM."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

import torch
from torch import nn

from llmbook.inference.batching import Engine
from llmbook.inference.server.app import Limits, ModelServer
from llmbook.interop import load_model, load_pretrained
from llmbook.model import DecoderLM, Encoder
from llmbook.storage import SourceError
from llmbook.text import HFTokenizer, Tokenizer

GRACE = 10.0  # seconds


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; the exit status: 0, or 2 with one line that says what is wrong."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        server = _make_server(options)
    except (ValueError, OSError, SourceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    told_to_stop = threading.Event()

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second time it ends at once
        told_to_stop.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    server.start()
    print(f"{server.name} at {server.url}/v1", flush=True)
    told_to_stop.wait()
    print(f"shutting down; open answers have {GRACE:g} seconds", flush=True)
    server.close(GRACE)
    for number, handler in previous.items():
        signal.signal(number, handler)
    return 0


def load(name: str) -> tuple[nn.Module, Tokenizer]:
    """A model and its tokenizer: from a checkpoint folder, or one of the pretrained models by its name.

    Raises:
        ValueError: it is neither, or a model that neither writes nor gives embeddings.
    """
    model, tokenizer = load_model(name) if Path(name).is_dir() else load_pretrained(name)
    if not (isinstance(model, DecoderLM) or (isinstance(model, Encoder) and isinstance(tokenizer, HFTokenizer))):
        raise ValueError(
            f"--model {name}: {type(model).__name__} neither writes nor gives embeddings; give a decoder language "
            "model, or an encoder"
        )
    return model, tokenizer


def make_engine(model: nn.Module, tokenizer: Tokenizer, *, max_batch: int, page_size: int, cache_bytes: int) -> Engine:
    """An engine with room for ``max_batch`` full contexts, or as many pages as ``cache_bytes`` hold.

    Raises:
        ValueError: not even one page fits.
    """
    config, weight = model.config, next(model.parameters())
    page_bytes = 2 * config.n_layers * config.n_kv_heads * config.d_head * page_size * weight.element_size()
    wanted = max_batch * -(-config.max_seq_len // page_size)
    n_pages = min(wanted, cache_bytes // page_bytes)
    if n_pages < 1:
        raise ValueError(f"a page of {page_size} positions takes {page_bytes} bytes, and the cache has {cache_bytes}")
    return Engine(model, n_pages=n_pages, page_size=page_size, max_batch=max_batch, tokenizer=tokenizer)


def _make_server(options: argparse.Namespace) -> ModelServer:
    if not 0 <= options.port < 2**16:
        raise ValueError(f"--port {options.port}: give a number from 0 (any free port) to 65535")
    least = dict(max_batch=1, page_size=1, max_body=1, max_waiting=0, cache_mib=0, threads=1)
    for name, low in least.items():
        value = getattr(options, name)
        if value is not None and value < low:
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be at least {low}")
    if not options.timeout > 0:
        raise ValueError(f"--timeout {options.timeout:g}: must be more than 0 seconds")
    model, tokenizer = load(options.model)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    limits = Limits(max_waiting=options.max_waiting, max_body=options.max_body, answer_timeout=options.timeout)
    place = dict(name=Path(options.model).name, host=options.host, port=options.port, limits=limits)
    if isinstance(model, Encoder):
        return ModelServer(encoder=(model, tokenizer), **place)
    engine = make_engine(
        model,
        tokenizer,
        max_batch=options.max_batch,
        page_size=options.page_size,
        cache_bytes=options.cache_mib * 2**20,
    )
    return ModelServer(
        engine,
        end_tokens=tokenizer.end_tokens,
        chat_template=getattr(tokenizer, "chat_template", None),
        **place,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llmbook.inference.server", description="Serve a model to OpenAI's clients."
    )
    parser.add_argument("--model", required=True, help="a checkpoint folder, or the name of a pretrained model")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; this machine alone by default")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free port")
    parser.add_argument("--max-batch", type=int, default=8, help="texts written at a time")
    parser.add_argument("--max-waiting", type=int, default=32, help="texts that may wait; more are refused with 429")
    parser.add_argument("--max-body", type=int, default=2**20, help="bytes of the longest request")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds an answer may take")
    parser.add_argument("--page-size", type=int, default=16, help="positions in a page of the cache")
    parser.add_argument("--cache-mib", type=int, default=512, help="memory for keys and values at most")
    parser.add_argument("--threads", type=int, help="threads of the model; PyTorch's choice by default")
    return parser


if __name__ == "__main__":
    sys.exit(main())
