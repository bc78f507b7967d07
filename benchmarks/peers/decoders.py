"""SmolLM2-135M writing one token at a time, greedily, at batch 1: ours, transformers' and llama.cpp's.

Each maker returns a function that writes n tokens after the prompt and calls ``tick(token)`` as each appears. The time
runs from the first of them to the last, so reading the prompt is left out. A token needs every weight once, so the
products alone, ours, are the limit of what saving the other operations can give.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import nn

from llmbook.compression import quantise_model
from llmbook.compression.linear import QuantisedLinear
from llmbook.inference import CompiledDecoder, fuse, pack_linears, stream_tokens
from llmbook.interop import load_pretrained, to_huggingface
from llmbook.model import evaluating
from llmbook.storage import package_files
from llmbook.text import Tokenizer, eval_windows, load_corpus
from llmbook.training import evaluate

LENGTH = 20_000  # characters on which the bits per byte are measured
PROMPT = "Once upon a time, in a small village at the foot of the mountains, there lived an old clockmaker who"
Decode = Callable[[int, Callable[[int], None]], dict | None]


def make_decode(name: str, text: str | None) -> Callable[[int], dict]:
    """``text`` names the corpus for the bits per byte; None leaves them out."""
    decode = DECODERS[name](text)

    def measure(n: int) -> dict:
        clocks, tokens = [], []

        def tick(token: int) -> None:
            clocks.append((time.perf_counter(), time.process_time()))
            tokens.append(token)

        said = decode(n, tick) or {}
        (wall, cpu), (wall_end, cpu_end) = clocks[0], clocks[-1]
        return {"work": n - 1, "seconds": wall_end - wall, "cpu_seconds": cpu_end - cpu, "tokens": tokens, **said}

    return measure


def _smollm2(dtype: torch.dtype, road: str):
    """The model as it is, or "fused", and then "packed", at 8 bits, or at 4 with the head at 8 or 4."""
    model, tokenizer = load_pretrained("smollm2", dtype=dtype)
    if road == "plain":
        return model, tokenizer
    model = fuse(model)
    if road == "packed":
        pack_linears(model)
    elif road == "int8":
        quantise_model(model, bits=8, skip=(), kernel="packed")
    elif road != "fused":  # the head is a fifth of the weights; llama.cpp's file keeps it at 8 bits
        quantise_model(model, bits=4, kernel="packed")
        quantise_model(model, bits={"int4": 4, "int4, head int8": 8}[road], skip=(), kernel="packed")
    return model, tokenizer


def _ours(text: str | None, dtype: torch.dtype, road: str, compiled: bool = False) -> Decode:
    model, tokenizer = _smollm2(dtype, road)
    ids = torch.tensor([tokenizer.encode(PROMPT)])
    said = {}
    if compiled:  # the weights are those of the row without
        model = CompiledDecoder(model)
    elif text:
        said["note"] = f"{_bits_per_byte(model, tokenizer, text):.3f}"

    def decode(n: int, tick: Callable[[int], None]) -> dict:
        with evaluating(model):
            for token in stream_tokens(model, ids, max_new_tokens=n, temperature=0):
                tick(int(token))
        return said

    return decode


def _bits_per_byte(model: nn.Module, tokenizer: Tokenizer, name: str) -> float:
    """What fewer bits cost: on a text it may have read, so only the differences between roads mean something."""
    text = load_corpus(name).split(valid=0.1)[1][:LENGTH]
    ids = tokenizer.encode(text)
    result = evaluate(model, eval_windows(ids, batch_size=1, seq_len=512))
    return result.loss * result.n_tokens / math.log(2) / len(text.encode())


def _products(dtype: torch.dtype, road: str) -> Decode:
    """The matrix products of a token and nothing else: what is left when all other work costs no time."""
    model, _ = _smollm2(dtype, road)
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, QuantisedLinear))]
    rows = [torch.randn(1, layer.in_features, dtype=dtype) for layer in layers]

    def decode(n: int, tick: Callable[[int], None]) -> None:
        for token in range(n):
            with torch.inference_mode():
                for layer, row in zip(layers, rows, strict=True):
                    layer(row)
            tick(token)

    return decode


def _transformers(dtype: torch.dtype, loop: bool = False) -> Decode:
    """``generate``, or the barest loop around the model with its default cache."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ours, tokenizer = load_pretrained("smollm2")
    config = ours.config
    theirs = LlamaConfig(
        vocab_size=config.vocab_size, hidden_size=config.d_model, intermediate_size=config.d_ff,
        num_hidden_layers=config.n_layers, num_attention_heads=config.n_heads, num_key_value_heads=config.n_kv_heads,
        max_position_embeddings=config.max_seq_len, rms_norm_eps=config.norm_eps, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta}, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(theirs)
    model.load_state_dict(to_huggingface(ours.state_dict(), "llama", n_layers=config.n_layers))
    model = model.to(dtype).eval()
    ids = torch.tensor([tokenizer.encode(PROMPT)])

    def in_a_loop(n: int, tick: Callable[[int], None]) -> None:
        token, past = ids, None
        with torch.inference_mode():
            for _ in range(n):
                out = model(token, past_key_values=past, use_cache=True, logits_to_keep=1)
                token, past = out.logits[:, -1:].argmax(-1), out.past_key_values
                tick(int(token))

    def by_generate(n: int, tick: Callable[[int], None]) -> None:
        def watch(so_far: torch.Tensor, _scores: object, **_) -> torch.Tensor:  # a stopping criterion that never stops
            tick(int(so_far[0, -1]))
            return torch.zeros(1, dtype=torch.bool)

        greedy = GenerationConfig(max_new_tokens=n, do_sample=False, pad_token_id=0)
        attend = torch.ones_like(ids)
        model.generate(ids, generation_config=greedy, attention_mask=attend, stopping_criteria=[watch])

    return in_a_loop if loop else by_generate


def _llama_cpp(_text: str | None) -> Decode:
    from llama_cpp import Llama

    (path,) = package_files("smollm2").values()
    threads = torch.get_num_threads()
    model = Llama(str(path), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    ids = model.tokenize(PROMPT.encode(), add_bos=False)

    def decode(n: int, tick: Callable[[int], None]) -> None:
        model.reset()
        tokens = model.generate(ids, top_k=1, temp=0.0, repeat_penalty=1.0)
        for _ in range(n):
            tick(int(next(tokens)))

    return decode


DECODERS: dict[str, Callable[[str | None], Decode]] = {
    "transformers generate, fp32": lambda _: _transformers(torch.float32),
    "transformers generate, fp16": lambda _: _transformers(torch.float16),
    "transformers generate, bf16": lambda _: _transformers(torch.bfloat16),
    "transformers, bare loop, bf16": lambda _: _transformers(torch.bfloat16, loop=True),
    "llama.cpp, Q4_1 file": _llama_cpp,
    "ours, fp32": lambda text: _ours(text, torch.float32, "plain"),
    "ours, fused and packed, fp32": lambda text: _ours(text, torch.float32, "packed"),
    "ours, fused, fp16": lambda text: _ours(text, torch.float16, "fused"),
    "ours, bf16": lambda text: _ours(text, torch.bfloat16, "plain"),
    "ours, fused, bf16": lambda text: _ours(text, torch.bfloat16, "fused"),
    "ours, fused and packed, bf16": lambda text: _ours(text, torch.bfloat16, "packed"),
    "ours, fused, int8": lambda text: _ours(text, torch.bfloat16, "int8"),
    "ours, fused, int4 (head int8)": lambda text: _ours(text, torch.bfloat16, "int4, head int8"),
    "ours, fused, int4": lambda text: _ours(text, torch.bfloat16, "int4"),
    "ours, fused and compiled, fp32": lambda text: _ours(text, torch.float32, "fused", compiled=True),
    "ours, fused and compiled, bf16": lambda text: _ours(text, torch.bfloat16, "fused", compiled=True),
    "ours, fused and compiled, int8": lambda text: _ours(text, torch.bfloat16, "int8", compiled=True),
    "ours, fused and compiled, int4": lambda text: _ours(text, torch.bfloat16, "int4", compiled=True),
    "the products alone, packed, bf16": lambda _: _products(torch.bfloat16, "packed"),
    "the products alone, int8": lambda _: _products(torch.bfloat16, "int8"),
    "the products alone, int4 (head int8)": lambda _: _products(torch.bfloat16, "int4, head int8"),
    "the products alone, int4": lambda _: _products(torch.bfloat16, "int4"),
}
