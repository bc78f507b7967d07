"""A step written by the compiler computes what the model computes, for as many steps as there are.

``test_compiled.py`` runs this file, in a process whose shapes are not checked: the compiler cannot follow the checks.
"""

import copy
import os
import pickle
import shutil
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from llmbook.compression import quantise_model
from llmbook.cpu import onednn
from llmbook.inference import CompiledDecoder, fuse, generate, pack_linears
from llmbook.model import DecoderLM, KVCache, SlidingKVCache, TransformerConfig
from tests.inference.test_fused import ids, llama
from tests.model.helpers import shake

CLOSE = dict(atol=1e-4, rtol=1e-4)
COMPILERS = ("cl",) if os.name == "nt" else ("c++", "g++", "clang++")  # those that torch asks
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="compiling needs a C++ compiler")


@pytest.fixture(autouse=True)
def _nothing_compiled_yet():
    torch._dynamo.reset()
    counters.clear()


@pytest.fixture
def traced(monkeypatch):
    """The programs as PyTorch traces them, run without a C++ compiler: enough where only what is compiled matters."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **options: compile(step, backend="aot_eager", **options))


def modern() -> DecoderLM:
    sizes = dict(vocab_size=32, max_seq_len=32, d_model=32, n_layers=2, n_heads=4, d_ff=48)
    return shake(DecoderLM(TransformerConfig.modern(**sizes)))


def in_steps(model, text: torch.Tensor, *, max_len: int, n_prompt: int) -> torch.Tensor:
    """Logits of a prompt and of each single token behind it."""
    dtype = next(model.parameters()).dtype
    cache = KVCache(model.config, batch_size=len(text), max_len=max_len, dtype=dtype)
    with torch.no_grad():
        parts = text.split([n_prompt, *[1] * (text.shape[1] - n_prompt)], dim=1)
        return torch.cat([model(part, cache=cache).logits for part in parts], dim=1)


@needs_compiler
@pytest.mark.parametrize("make", [lambda: fuse(llama()), modern], ids=["fused", "modern"])
def test_every_step_is_the_models(make):
    """Catches a length or a position that was compiled in, keys that are written to a copy, a program anew for each
    length, and one that writes behind the end of the cache."""
    model, text = make().eval(), ids(2, 20)
    decoder = CompiledDecoder(model).eval()
    with torch.no_grad():
        expected = model(text).logits
    for max_len, n_prompt in ((20, 3), (27, 3), (21, 1)):
        found = in_steps(decoder, text, max_len=max_len, n_prompt=n_prompt)
        torch.testing.assert_close(found, expected, **CLOSE)
    assert counters["stats"]["unique_graphs"] == 1
    with pytest.raises(ValueError, match="the cache has room for 19 positions and holds 19"):
        in_steps(decoder, text, max_len=19, n_prompt=3)


@needs_compiler
@pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN linear operator")
def test_linear_layers_are_laid_out_for_the_step():
    """Catches weights that the program reads as they lie, which takes the time that packing saves."""
    decoder, prompt = CompiledDecoder(fuse(llama()).bfloat16()), ids(1, 4)
    generate(decoder, prompt, max_new_tokens=4)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        generate(decoder, prompt, max_new_tokens=4)
    calls = {event.key: event.count for event in seen.key_averages()}
    assert calls["mkldnn::_linear_pointwise"] == 3 * (4 * 2 + 1)  # three steps of two blocks and a head


@needs_compiler
def test_a_quantised_model_too():
    """Catches a layer the compiler cannot follow."""
    model, prompt = fuse(llama(d_ff=64, n_heads=4)).bfloat16(), ids(1, 6)
    quantise_model(model, bits=4, kernel="packed")
    with torch.no_grad():
        expected = model(prompt).logits
    found = in_steps(CompiledDecoder(model).eval(), prompt, max_len=8, n_prompt=2)
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.02)


def test_a_packed_model_too(traced):
    """Catches a layout of ours in a program that makes its own."""
    model, options = fuse(llama()), dict(max_new_tokens=12, temperature=0)
    pack_linears(model)
    decoder, prompt = CompiledDecoder(model), ids(1, 4)
    assert torch.equal(generate(decoder, prompt, **options), generate(model, prompt, **options))
    assert counters["stats"]["unique_graphs"] == 1


def test_what_is_no_single_step_the_model_reads(monkeypatch):
    """Catches padded rows, gradients, training and other memories handed to a program made for one step."""
    model, prompt = llama(sliding_window=4), ids(2, 6)
    decoder = CompiledDecoder(model).eval()
    monkeypatch.setattr(decoder, "_step", lambda *_: pytest.fail("the compiled step was taken"))
    padding = torch.tensor([[0] * 3 + [1] * 3, [1] * 6])
    options = dict(max_new_tokens=5, temperature=0)
    for reading in (
        dict(attention_mask=padding),
        dict(use_cache=False),
        dict(cache=SlidingKVCache(model.config, batch_size=2)),
    ):
        before = copy.deepcopy(reading)
        assert torch.equal(
            generate(decoder, prompt, **options, **reading), generate(model, prompt, **options, **before)
        )
    step = prompt[:, -1:]
    for training, gradients in ((True, False), (False, True)):
        cache = KVCache(model.config, batch_size=2)
        with torch.no_grad():
            decoder(prompt, cache=cache)
        decoder.train(training)
        refused = pytest.raises(RuntimeError, match="a cache does not carry gradients") if gradients else nullcontext()
        with torch.set_grad_enabled(gradients), refused:
            decoder(step, cache=cache)


@needs_compiler
def test_each_model_has_its_own_step():
    """Catches a program that answers for another model of the same shape, for the model a copy was made of, or for
    weights that have been loaded over: the weights are part of it."""
    prompt, options = ids(1, 4), dict(max_new_tokens=12, temperature=0)
    first = CompiledDecoder(fuse(llama(n_layers=1)))
    text = generate(first, prompt, **options)
    assert pickle.loads(pickle.dumps(first))._compiled_for == set()
    copied, another = copy.deepcopy(first), CompiledDecoder(copy.deepcopy(first.model))
    for decoder in (copied, another):
        with torch.no_grad():
            for parameter in decoder.model.parameters():
                parameter.mul_(-0.7)
    first.load_state_dict(copied.state_dict())
    expected = generate(copied.model, prompt, **options)
    assert not torch.equal(expected, text)
    for decoder in (copied, another, first):
        assert torch.equal(generate(decoder, prompt, **options), expected)


@needs_compiler
def test_a_model_that_was_moved_is_compiled_anew():
    """Catches the step of weights that have been rounded since."""
    decoder, text = CompiledDecoder(fuse(llama(n_layers=1))).eval(), ids(1, 6)
    for move in (nn.Module.float, nn.Module.bfloat16, nn.Module.float):
        move(decoder)
        with torch.no_grad():
            expected = decoder.model(text).logits
        if expected.dtype == torch.float32:
            torch.testing.assert_close(in_steps(decoder, text, max_len=8, n_prompt=3), expected, **CLOSE)
