"""Every position scheme against its definition, and against transformers where it has one."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from llmbook.model import (
    AlibiBias,
    RopeScaling,
    Rotary,
    T5Bias,
    alibi_slopes,
    relative_positions,
    rope_frequencies,
    rotate,
    sinusoidal_table,
    t5_bucket,
)


def test_sinusoids_by_the_formula():
    """Sine and cosine exchanged, or a frequency off by one dimension."""
    table = sinusoidal_table(50, 6, base=100.0)
    for p, d in [(0, 0), (7, 0), (7, 1), (31, 4), (49, 5)]:
        angle = p * 100.0 ** (-(d // 2 * 2) / 6)
        assert table[p, d].item() == pytest.approx(math.cos(angle) if d % 2 else math.sin(angle), abs=1e-5)


def test_a_shift_is_a_linear_map_of_sinusoids():
    """The property the scheme was chosen for: PE(p + k) = M_k PE(p) with one M_k for all p."""
    table = sinusoidal_table(64, 8).double()
    solution = torch.linalg.lstsq(table[:-5], table[5:]).solution
    torch.testing.assert_close(table[:-5] @ solution, table[5:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_t5_buckets_equal_transformers(bidirectional):
    """A wrong boundary of T5's logarithmic buckets."""
    relative = relative_positions(300, 300)
    theirs = T5Attention._relative_position_bucket(relative, bidirectional=bidirectional)
    assert torch.equal(t5_bucket(relative, bidirectional=bidirectional), theirs)


@pytest.mark.parametrize("n_heads", [4, 8, 12])
def test_alibi_equals_transformers(n_heads):
    """Wrong slopes, above all for head counts that are not powers of two. Bloom adds slope × key position, which
    differs from slope × distance by a constant a row: a softmax does not see it."""
    theirs = build_alibi_tensor(torch.ones(1, 6), n_heads, torch.float32).view(n_heads, 6)
    torch.testing.assert_close(alibi_slopes(n_heads), theirs[:, 1])
    ours = AlibiBias(n_heads=n_heads)(6, 6)[0, :, -1]
    torch.testing.assert_close(ours - ours[:, :1], theirs - theirs[:, :1])


def test_bias_queries_are_the_last_of_the_keys():
    """A bias that forgets the cache's offset."""
    for bias in (AlibiBias(n_heads=4), T5Bias(n_heads=4)):
        torch.testing.assert_close(bias(2, 9), bias(9, 9)[:, :, -2:])


def test_rotation_keeps_length_and_turns():
    """RoPE missing altogether passes a shift test; here position 0 stays and position 1 must move."""
    x = torch.randn(1, 1, 3, 8)
    turned = rotate(x, *Rotary(d_head=8)(torch.arange(3)[None]))
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert (turned[:, :, 1] - x[:, :, 1]).abs().max() > 0.1


def test_scores_depend_on_the_distance_alone():
    """The sign of one rotation flipped: scores would depend on the sum of the positions."""
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    rotary = Rotary(d_head=8)

    def score(m: int, n: int) -> float:
        at_m, at_n = rotary(torch.tensor([[m]])), rotary(torch.tensor([[n]]))
        return (rotate(q, *at_m) * rotate(k, *at_n)).sum().item()

    assert score(7, 3) == pytest.approx(score(107, 103), abs=1e-4)
    assert abs(score(7, 3) - score(3, 7)) > 1e-2


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_rope_scaling_equals_transformers(kind):
    """A wrong ramp, base or amplitude in stretched rotary positions."""
    theta = {
        "rope_theta": 10_000.0,
        "rope_type": kind,
        "factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        max_position_embeddings=1024,
        rope_parameters=theta,
    )
    frequencies, amplitude = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    scaling = RopeScaling(kind=kind, factor=4.0, original_max_seq_len=256)
    torch.testing.assert_close(rope_frequencies(32, scaling=scaling), frequencies)
    assert Rotary(d_head=32, scaling=scaling).amplitude == pytest.approx(amplitude)


def test_ntk_stretches_the_slowest_pair_by_the_factor():
    """An NTK base with the wrong exponent."""
    plain = rope_frequencies(32)
    scaled = rope_frequencies(32, scaling=RopeScaling(kind="ntk", factor=4.0, original_max_seq_len=64))
    assert (plain[0] / scaled[0]).item() == pytest.approx(1.0)
    assert (plain[-1] / scaled[-1]).item() == pytest.approx(4.0, rel=1e-4)


def test_ntk_needs_two_pairs():
    """Catches a division by zero where one pair is the fastest and the slowest at once."""
    scaling = RopeScaling(kind="ntk", factor=4.0, original_max_seq_len=64)
    with pytest.raises(ValueError, match="d_head=2 is one pair, use 'linear'"):
        rope_frequencies(2, scaling=scaling)


def test_a_bf16_model_keeps_exact_angles():
    """Frequencies rounded to bf16: at position 1000 the angle would be off by several radians."""
    rotary = Rotary(d_head=16).to(torch.bfloat16)
    assert torch.equal(rotary.frequencies, rope_frequencies(16))
