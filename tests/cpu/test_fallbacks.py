"""Without one of torch's private names the library computes the same, by public operations."""

import importlib

import pytest
import torch
import torch.nn.functional as F

from llmbook.compression import Int4Linear, Int8Linear
from llmbook.cpu import inductor, onednn, weight_only
from llmbook.inference import PackedLinear
from llmbook.model import Linear


@pytest.fixture
def without(monkeypatch):
    """Take a name away from torch and read the module that uses it again; both come back after the test."""
    read_again = []

    def take(owner, name, module):
        monkeypatch.delattr(owner, name)
        read_again.append(importlib.reload(module))

    yield take
    monkeypatch.undo()
    for module in read_again:
        importlib.reload(module)


def test_a_linear_layer_without_onednn(without, monkeypatch):
    """Catches a product that needs the operator, forward or backward, and a layer that claims to have it."""
    namespace = type("namespace", (), {})
    for name in ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported"):
        setattr(namespace, name, getattr(torch.ops.mkldnn, name))
    monkeypatch.setattr(torch.ops, "mkldnn", namespace, raising=False)
    for name in ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported"):
        without(namespace, name, onednn)
    assert not onednn.available()
    assert not onednn.multiplies_bfloat16()
    layer, x = Linear(12, 8), torch.randn(3, 12, requires_grad=True)
    layer.kernel = "onednn"
    expected = torch.autograd.grad(F.linear(x, layer.weight, layer.bias).square().sum(), (x, layer.weight))
    found = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight))
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(PackedLinear(layer)(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda linear: Int8Linear.from_linear(linear, kernel="packed"), "_weight_int8pack_mm"),
        (lambda linear: Int4Linear.from_linear(linear, kernel="packed"), "_weight_int4pack_mm_for_cpu"),
        (lambda linear: Int4Linear.from_linear(linear, kernel="packed"), "_convert_weight_to_int4pack_for_cpu"),
    ],
)
def test_a_quantised_layer_without_its_kernel(without, made, name):
    """Catches codes laid out for a kernel that is not there, and a scale or zero that the fallback forgets."""
    linear = torch.nn.Linear(64, 32)
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    expected = made(linear)(x)
    without(torch, name, weight_only)
    found = made(linear)(x)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    assert (found - F.linear(x.float(), linear.weight, linear.bias)).abs().max() < 0.3


def test_compiling_without_frozen_weights(monkeypatch):
    """Catches a step that cannot be compiled where torch has no such option."""
    monkeypatch.setattr(torch, "_inductor", object(), raising=False)
    with inductor.frozen_weights(True):
        pass
