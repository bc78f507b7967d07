"""Quantisation: the formula in float64, PyTorch's own, the bound on the error, and what is refused."""

import math

import jaxtyping
import pytest
import torch

from llmbook.compression import pack_nibbles, quantise_absmax, quantise_groups, unpack_nibbles


def weight(rows: int = 6, columns: int = 128) -> torch.Tensor:
    """Rows of very different size, and off-centre, so that a scale shared along the wrong axis shows."""
    generator = torch.Generator().manual_seed(3)
    sizes = 10.0 ** torch.arange(-2, rows - 2).view(-1, 1).clamp(max=1)
    return (torch.randn(rows, columns, generator=generator) + 0.5) * sizes


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_absmax_is_the_formula_in_float64(bits, per):
    """Catches a scale along the wrong axis, 2^(b−1) for 2^(b−1) − 1, and rounding down instead of to the nearest."""
    w = weight().double()
    end = 2 ** (bits - 1) - 1
    quantised = quantise_absmax(w, bits=bits, per=per)
    for i, row in enumerate(w.tolist()):
        scale = max(abs(x) for x in (row if per == "channel" else w.flatten().tolist())) / end
        assert quantised.codes[i].tolist() == [round(x / scale) for x in row]
        torch.testing.assert_close(quantised.dequantise()[i].tolist(), [scale * round(x / scale) for x in row])


@pytest.mark.parametrize("bits", [4, 8])
def test_absmax_is_pytorchs_quantisation(bits):
    """Catches a convention of our own: PyTorch's per-channel and per-tensor arithmetic gives the same weights."""
    w, end = weight(), 2 ** (bits - 1) - 1
    channel = quantise_absmax(w, bits=bits, per="channel")
    zeros = torch.zeros(len(w), dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(w, channel.scales[:, 0], zeros, 0, -end, end)
    torch.testing.assert_close(channel.dequantise(), theirs)
    tensor = quantise_absmax(w, bits=bits, per="tensor")
    theirs = torch.fake_quantize_per_tensor_affine(w, tensor.scales.item(), 0, -end, end)
    torch.testing.assert_close(tensor.dequantise(), theirs)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_groups_are_the_formula_in_float64(bits, group_size):
    """Catches a zero of the wrong sign, a last group left out, 2^b for 2^b − 1, and groups cut down the columns."""
    w = weight().double()
    quantised = quantise_groups(w, bits=bits, group_size=group_size)
    assert quantised.scales.shape == (6, 128 // group_size)
    for i, row in enumerate(w.tolist()):
        for start in range(0, 128, group_size):
            group = row[start : start + group_size]
            low, step = min(group), (max(group) - min(group)) / (2**bits - 1)
            codes = [math.floor((x - low) / step + 0.5) for x in group]
            assert quantised.codes[i, start : start + group_size].tolist() == codes
            restored = quantised.dequantise()[i, start : start + group_size].tolist()
            torch.testing.assert_close(restored, [step * c + low for c in codes])


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(
    "quantise", [quantise_absmax, lambda w, bits: quantise_absmax(w, bits=bits, per="tensor"), quantise_groups]
)
def test_no_weight_moves_by_more_than_half_a_step(bits, quantise):
    """Catches rounding down, clamping inside the range, and a step other than the stored one."""
    w = weight()
    quantised = quantise(w, bits=bits)
    error = (quantised.dequantise() - w).abs().unflatten(1, (quantised.scales.shape[1], -1))
    half_step = quantised.scales[..., None] / 2
    assert (error <= half_step * (1 + 1e-4)).all()
    assert (error.amax(2) > 0.4 * quantised.scales).any()  # the bound is not idle


@pytest.mark.parametrize("bits", range(2, 9))
def test_what_the_codes_can_say_comes_back_exactly(bits):
    """Catches a range that loses its ends: every code occurs, and every value is a code's."""
    end = 2 ** (bits - 1) - 1
    symmetric = torch.arange(-end, end + 1).float().repeat(2, 1) * torch.tensor([[0.5], [0.125]])
    torch.testing.assert_close(quantise_absmax(symmetric, bits=bits).dequantise(), symmetric, rtol=0, atol=0)
    codes = torch.arange(256).remainder(2**bits).float().view(2, 128)  # every group of 32 has 0 or its ends below
    codes[:, 0::32], codes[:, 31::32] = 0, 2**bits - 1
    grouped = codes * 0.25 - 3
    quantised = quantise_groups(grouped, bits=bits)
    assert torch.equal(quantised.codes, codes.to(torch.uint8))
    torch.testing.assert_close(quantised.dequantise(), grouped, rtol=0, atol=0)


def test_equal_numbers_are_no_division_by_zero():
    """Catches 0 / 0: a step of 0 gives NaN codes unless it is thought of."""
    assert torch.equal(quantise_absmax(torch.zeros(2, 32)).dequantise(), torch.zeros(2, 32))
    constant = torch.full((2, 32), 0.75)
    assert torch.equal(quantise_groups(constant).dequantise(), constant)


def test_codes_are_chosen_for_the_stored_scales():
    """Catches scales rounded after the codes were chosen: in bfloat16 the largest then move by a quarter step."""
    w = weight(columns=512)
    ends = {quantise_absmax: (-127, 127), quantise_groups: (0, 255)}
    for quantise, (lowest, highest) in ends.items():
        quantised = quantise(w, bits=8, dtype=torch.bfloat16)
        assert quantised.scales.dtype == torch.bfloat16
        inside = (quantised.codes > lowest) & (quantised.codes < highest)  # a rounded scale may not reach the ends
        moved = (quantised.dequantise() - w).unflatten(1, (quantised.scales.shape[1], -1)) / quantised.scales[..., None]
        assert moved.flatten(1)[inside].abs().max() <= 0.5 + 1e-3


def test_bytes_are_packed_codes_scales_and_zeros():
    """Catches codes counted a byte each and zeros forgotten; 4 bits in groups of 32 with half-precision scale and
    zero are 5 bits a weight, GGUF's Q4_1."""
    w = weight(rows=4)
    assert quantise_absmax(w, bits=8).n_bytes == 4 * 128 + 4 * 4
    assert quantise_absmax(w, bits=3, per="tensor").n_bytes == 4 * 128 * 3 // 8 + 4
    assert quantise_groups(w, bits=4, group_size=32, dtype=torch.bfloat16).n_bytes == 4 * 128 * 5 // 8


def test_two_codes_in_a_byte_come_back_in_order():
    """Catches halves swapped and columns paired with the wrong neighbour."""
    codes = torch.tensor([[1, 2, 15, 0], [0, 9, 7, 8]], dtype=torch.uint8)
    assert pack_nibbles(codes).tolist() == [[0x21, 0x0F], [0x90, 0x87]]
    assert torch.equal(unpack_nibbles(pack_nibbles(codes)), codes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantise_absmax(torch.ones(2, 4), bits=9), "bits=9 is not"),
        (lambda: quantise_absmax(torch.ones(2, 4), bits=1), "bits=1 is not"),
        (lambda: quantise_absmax(torch.ones(2, 4), per="row"), "per='row' is not"),
        (lambda: quantise_absmax(torch.tensor([[1.0, float("nan")]])), r"holds nan at \(0, 1\)"),
        (lambda: quantise_groups(torch.tensor([[float("inf")] * 32])), r"holds inf at \(0, 0\)"),
        (lambda: quantise_groups(torch.ones(2, 32), bits=16), "bits=16 is not"),
        (lambda: quantise_groups(torch.ones(32)), r"shape \(32,\) and type torch.float32: give a matrix"),
        (lambda: quantise_absmax(torch.ones(2, 4, dtype=torch.int64)), "type torch.int64: .* floating-point"),
        (lambda: quantise_groups(torch.ones(2, 48), group_size=48), "group_size=48 is not one of 32, 64, 128"),
        (
            lambda: quantise_groups(torch.ones(2, 64), group_size=128),
            "64 inputs .* group_size=128: group_size=64 would",
        ),
        (lambda: quantise_groups(torch.ones(2, 33)), "33 inputs .* use quantise_absmax"),
        (lambda: pack_nibbles(torch.ones(2, 3, dtype=torch.uint8)), "3 codes do not pair up"),
        (lambda: pack_nibbles(torch.full((1, 2), 16, dtype=torch.uint8)), "code 16 does not fit"),
        (
            lambda: quantise_absmax(torch.full((2, 32), 1e8), dtype=torch.float16),
            "too large for scales in torch.float16",
        ),
        (lambda: quantise_groups(torch.tensor([[-6e4, 6e4] * 16]).half()), "too large for scales in torch.float16"),
    ],
)
def test_what_cannot_be_quantised_is_refused_by_name(call, message, monkeypatch):
    """Catches odd sizes padded in silence, whole numbers whose scale rounds to 0, non-finite weights turned into
    arbitrary codes, and scales that overflow, whose weights come back as nan."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as at a reader's: only tests check shapes
    with pytest.raises(ValueError, match=message):
        call()
