"""Parts without a reference in PyTorch or transformers, against their formulas written out in float64."""

import math

import pytest
import torch

from llmbook.model import Rotary, TransformerConfig
from llmbook.model.config import GATED
from llmbook.model.layers import ACTIVATIONS, FeedForward, make_attention
from tests.model.helpers import shake


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def gelu_tanh(x):
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


FORMULAS = {
    "relu": lambda x: x * (x > 0),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu2": lambda x: x**2 * (x > 0),
    "swiglu": lambda x: x / (1 + torch.exp(-x)),
    "geglu": gelu,
    "geglu_tanh": gelu_tanh,
}


def same_values_and_gradients(ours, formula, inputs, **close):
    """Two ways to compute one tensor agree, and so do the slopes of a loss that treats no two of its numbers alike."""
    weight = torch.randn_like(ours)
    assert ours.abs().max() > 0.1
    torch.testing.assert_close(ours, formula, **close)
    a = torch.autograd.grad((ours * weight).sum(), inputs)
    b = torch.autograd.grad((formula * weight).sum(), inputs)
    for mine, theirs in zip(a, b, strict=True):
        assert mine.abs().max() > 0.1
        torch.testing.assert_close(mine, theirs, **close)


def test_every_activation_has_its_formula():
    """A new activation without a test."""
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_feed_forward_net_is_its_formula(name, bias):
    """An activation under another's name, one approximated by another, the gate bent in place of what it lets through
    or not at all, a bias lost."""
    net = shake(FeedForward(d_model=6, d_ff=10, activation=name, bias=bias).double(), std=0.6)
    x = 2 * torch.randn(3, 5, 6, dtype=torch.float64)
    x.requires_grad_()

    def line(layer, x):
        return x @ layer.weight.T + (layer.bias if bias else 0)

    bent = FORMULAS[name]
    middle = bent(line(net.gate_proj, x)) * line(net.up_proj, x) if name in GATED else bent(line(net.up_proj, x))
    same_values_and_gradients(net(x), line(net.down_proj, middle), [x, *net.parameters()])


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_normalised_queries_and_keys_are_their_formula(backend):
    """A norm left out, taken over all heads at once or over values too, one gain for queries and keys, and a norm after
    the rotation: gains that differ within a pair turn with it. Head by head and token by token, as complex numbers."""
    config = TransformerConfig(
        vocab_size=5, d_model=12, n_heads=4, n_kv_heads=2, d_head=6, positions="rope", rope_theta=10.0, qk_norm=True,
        norm="rmsnorm", norm_eps=0.1, bias=False, attention_backend=backend,
    )  # fmt: skip
    layer = shake(make_attention(config).double(), std=0.6)
    assert layer.q_norm.weight is not layer.k_norm.weight
    x = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    rotary = Rotary(d_head=6, base=10.0)
    ours, _ = layer(x, causal=True, angles=rotary(torch.arange(5).expand(2, 5)))

    def normalised(v, gain):  # v [B, 6]
        return v / (v.square().mean(-1, keepdim=True) + 0.1).sqrt() * gain

    def turned(v, position):
        plane = torch.complex(v[:, :3], v[:, 3:])
        theta = torch.tensor([10.0 ** (-2 * i / 6) for i in range(3)], dtype=torch.float64)
        plane = plane * torch.polar(torch.ones(3, dtype=torch.float64), position * theta)
        return torch.cat([plane.real, plane.imag], -1)

    def head(projection, h, t):
        return x[:, t] @ projection.weight[6 * h : 6 * h + 6].T

    tokens = []
    for t in range(5):
        read = []
        for h in range(4):
            q = turned(normalised(head(layer.q_proj, h, t), layer.q_norm.weight), t)
            keys = [turned(normalised(head(layer.k_proj, h // 2, s), layer.k_norm.weight), s) for s in range(t + 1)]
            weights = torch.stack([(q * k).sum(-1) / math.sqrt(6) for k in keys]).softmax(0)  # [t + 1, B]
            values = torch.stack([head(layer.v_proj, h // 2, s) for s in range(t + 1)])
            read.append((weights[..., None] * values).sum(0))
        tokens.append(torch.cat(read, -1) @ layer.o_proj.weight.T)
    close = dict(atol=1e-5, rtol=0)  # the angles are computed in float32
    same_values_and_gradients(ours, torch.stack(tokens, 1), [x, *layer.parameters()], **close)
