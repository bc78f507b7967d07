"""What a model computes on one device it computes on the other: forward, backward, compiled, cached, quantised."""

import copy
from functools import partial

import pytest
import torch

from llmbook.compression import quantise_model
from llmbook.inference import Engine, Request, Sampling, fuse, generate
from llmbook.model import DecoderLM, KVCache, TransformerConfig
from llmbook.training import Runtime, causal_lm_loss

PRESETS = pytest.mark.parametrize("preset", ["gpt2", "llama", "modern"])
SIZES = dict(vocab_size=61, max_seq_len=32, d_model=32, n_layers=2, n_heads=4, init_std=0.2)


def pair(device: torch.device, preset: str = "llama", **overrides) -> tuple[DecoderLM, DecoderLM]:
    """The same random model twice: on the CPU, and on the device."""
    model = DecoderLM(getattr(TransformerConfig, preset)(**{**SIZES, "zero_init": False, **overrides})).eval()
    return model, copy.deepcopy(model).to(device)


def gradients(model: DecoderLM, ids: torch.Tensor, runtime: Runtime) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    with runtime.autocast():
        loss = causal_lm_loss(model, {"input_ids": ids.to(runtime.device)})
    (loss.total / loss.n_targets).backward()
    return loss.total.item(), {name: p.grad.float().cpu() for name, p in model.named_parameters()}


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((got - wanted).norm() / wanted.norm().clamp(min=1e-8)).item()


@PRESETS
def test_forward_and_backward_agree_in_float32(device, preset):
    """A mask, table or buffer that stays behind on the CPU, TF32 switched on unasked, a kernel with another scale."""
    here, there = pair(device, preset)
    ids = torch.randint(61, (3, 17))
    torch.testing.assert_close(there(ids.to(device)).logits.cpu(), here(ids).logits, atol=1e-4, rtol=0)
    loss, wanted = gradients(here, ids, Runtime(torch.device("cpu"), torch.float32, ""))
    loss_there, got = gradients(there, ids, Runtime(device, torch.float32, ""))
    assert loss_there == pytest.approx(loss, abs=1e-3)
    for name, grad in wanted.items():
        torch.testing.assert_close(got[name], grad, atol=1e-4, rtol=1e-3, msg=name)


@PRESETS
def test_sixteen_bits_are_close(device, preset, sixteen_bits):
    """A softmax, norm or loss computed in 16 bits: errors of a tenth in place of a hundredth."""
    here, there = pair(device, preset)
    ids = torch.randint(61, (4, 32))
    loss, wanted = gradients(here, ids, Runtime(torch.device("cpu"), torch.float32, ""))
    loss_there, got = gradients(there, ids, Runtime(device, sixteen_bits, ""))
    assert loss_there == pytest.approx(loss, rel=0.02)
    whole, theirs = (torch.cat([grads[name].flatten() for name in wanted]) for grads in (wanted, got))
    assert 1e-5 < relative_error(theirs, whole) < 0.05  # not 0: the products did round


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_padding_windows_and_backends(device, backend, padding):
    """A fused kernel that gives a row without keys NaN, or a mask built on another device than the scores."""
    here, there = pair(device, attention_backend=backend, sliding_window=5)
    ids, mask = torch.randint(61, (3, 12)), torch.ones(3, 12, dtype=torch.bool)
    if padding:
        mask[0, :7] = False
    wanted = here(ids, attention_mask=mask).logits[mask]
    got = there(ids.to(device), attention_mask=mask.to(device)).logits.cpu()
    assert got.isfinite().all()
    torch.testing.assert_close(got[mask], wanted, atol=1e-4, rtol=0)


@PRESETS
def test_writing_with_a_cache(device, preset):
    """A cache made on the CPU, positions counted there, a draw that waits for another device."""
    here, there = pair(device, preset)
    prompt = torch.randint(61, (2, 5))
    wanted = generate(here, prompt, max_new_tokens=12, temperature=0)
    for options in ({}, {"use_cache": False}):
        got = generate(there, prompt.to(device), max_new_tokens=12, temperature=0, **options)
        assert got.device.type == device.type
        assert torch.equal(got.cpu(), wanted), options
    drawn = generate(there, prompt.to(device), max_new_tokens=12, top_k=5, top_p=0.9, repetition_penalty=1.1)
    assert drawn.shape == (2, 17)


def test_a_cache_in_sixteen_bits(device, sixteen_bits):
    """A cache that keeps float32 beside a model in 16 bits, or is refused by it."""
    _, model = pair(device)
    model = model.to(sixteen_bits)
    cache = KVCache(model.config, max_len=9, device=device, dtype=sixteen_bits)
    ids = torch.randint(61, (1, 9), device=device)
    with torch.no_grad():
        whole = model(ids).logits[:, -1]
        model(ids[:, :8], cache=cache)
        step = model(ids[:, 8:], cache=cache).logits[:, -1]
    assert relative_error(step.float(), whole.float()) < 0.02


def test_the_fused_decoder(device):
    """Stacked projections whose rotation tables stay behind."""
    here, there = pair(device)
    prompt = torch.randint(61, (1, 5))
    wanted = generate(here, prompt, max_new_tokens=8, temperature=0)
    assert torch.equal(generate(fuse(there), prompt.to(device), max_new_tokens=8, temperature=0).cpu(), wanted)


def test_continuous_batching(device):
    """Pages, tables and draws on two devices."""
    here, there = pair(device)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    wanted = [generate(here, torch.tensor([p]), max_new_tokens=6, temperature=0)[0, len(p) :].tolist() for p in prompts]
    request = partial(Request, sampling=Sampling(max_new_tokens=6, temperature=0))
    engine = Engine(there, n_pages=24, page_size=4, max_batch=2)
    done = [engine.submit(request(prompt_ids=prompt))[0] for prompt in prompts]
    engine.run()
    assert [list(completion.tokens) for completion in done] == wanted


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_layers(device, bits):
    """Scales left on the CPU, integers that a device cannot multiply."""
    here, there = pair(device)
    ids = torch.randint(61, (2, 9))
    for model in (here, there):
        quantise_model(model, bits=bits)
    torch.testing.assert_close(there(ids.to(device)).logits.cpu(), here(ids).logits, atol=1e-3, rtol=1e-3)
