"""Another road to the same numbers."""

import pytest
import torch
import torch.nn.functional as F

from llmbook.cpu import onednn
from llmbook.model import Linear, use_kernels
from tests.model.helpers import random_ids, small_lm

needs_onednn = pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN linear operator")


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_onednn_equals_torch(bias):
    """A gradient transposed, summed over the wrong axis or left out: three axes, uneven sizes, float32."""
    layer = Linear(12, 20, bias=bias)
    layer.kernel = "onednn"
    x = torch.randn(2, 7, 12, requires_grad=True)
    probe = torch.randn(2, 7, 20)
    results = []
    for y in (layer(x), F.linear(x, layer.weight, layer.bias)):
        results.append([y.detach(), *torch.autograd.grad((y * probe).sum(), [x, *layer.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@needs_onednn
def test_the_other_road_is_taken_only_where_it_leads(monkeypatch):
    """A kernel chosen and never called, or called where its answer would have another precision."""
    calls = []
    real = onednn.product
    monkeypatch.setattr(onednn, "product", lambda *a: calls.append(a[0].shape) or real(*a))
    layer = Linear(4, 4)
    layer(torch.randn(3, 4))
    assert calls == []
    layer.kernel = "onednn"
    layer(torch.randn(3, 4))
    assert calls == [(3, 4)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(3, 4)).dtype == torch.bfloat16
    assert layer.double()(torch.randn(3, 4).double()).dtype == torch.float64
    assert calls == [(3, 4)]


@needs_onednn
def test_a_model_gives_the_same_by_every_road():
    """A choice that reaches only some layers, or changes what is computed: logits and gradients."""
    model, ids = small_lm(positions="rope", feed_forward="swiglu"), random_ids(2, 8)
    seen = []
    for linear, attention in [("torch", "sdpa"), ("onednn", "eager")]:
        use_kernels(model, linear=linear, attention=attention)
        model.zero_grad()
        logits = model(ids).logits
        logits.square().mean().backward()
        seen.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert {part.kernel for part in model.modules() if isinstance(part, Linear)} == {"onednn"}
    assert model.backbone.blocks[1].attention.backend == "eager"


def test_unknown_roads_are_refused(monkeypatch):
    """A misspelt kernel that silently leaves everything as it was."""
    model = small_lm()
    with pytest.raises(ValueError, match="linear='mkl'"):
        use_kernels(model, linear="mkl")
    with pytest.raises(ValueError, match="attention='flash'"):
        use_kernels(model, attention="flash")
    monkeypatch.setattr("llmbook.cpu.onednn.available", lambda: False)
    with pytest.raises(ValueError, match="without oneDNN"):
        use_kernels(model, linear="onednn")
