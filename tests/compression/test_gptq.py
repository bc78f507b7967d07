"""Rounding for the outputs: less error where the inputs go together, plain rounding where they do not."""

import jaxtyping
import pytest
import torch

from llmbook.compression import quantise_by_outputs, quantise_groups


def related_inputs(n: int = 512, width: int = 64) -> torch.Tensor:
    """Inputs in 8 dimensions of 64, and a little noise: what one weight does, others can make up for."""
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(n, 8, generator=generator) @ torch.randn(8, width, generator=generator)
    return few + 0.1 * torch.randn(n, width, generator=generator)


def error(weight, rounded, inputs) -> float:
    return ((weight - rounded.dequantise()) @ inputs.T).square().mean().item()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_outputs_stay_closer_than_by_plain_rounding(bits):
    """Catches a correction with the wrong sign, of the wrong columns, or by H for its inverse."""
    weight, inputs = torch.randn(32, 64, generator=torch.Generator().manual_seed(1)), related_inputs()
    plain, moved = quantise_groups(weight, bits=bits), quantise_by_outputs(weight, inputs, bits=bits)
    assert error(weight, moved, inputs) < 0.4 * error(weight, plain, inputs)
    assert (weight - moved.dequantise()).norm() > (weight - plain.dequantise()).norm()  # the weights' price for it


def test_independent_inputs_leave_plain_rounding():
    """Catches columns that are moved although nothing links them, and groups with other ends than their own."""
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    plain, moved = quantise_groups(weight, bits=3), quantise_by_outputs(weight, 5 * torch.eye(64), bits=3)
    assert torch.equal(moved.codes, plain.codes)
    torch.testing.assert_close(moved.dequantise(), plain.dequantise())
    assert moved.n_bytes == plain.n_bytes


def test_the_weight_given_stays_as_it_is():
    """Catches columns corrected in the caller's own matrix."""
    weight = torch.randn(4, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    before = weight.clone()
    quantise_by_outputs(weight, torch.randn(9, 32))
    assert torch.equal(weight, before)


def test_a_column_that_is_never_used_does_no_harm():
    """Catches the inverse of a singular H: inputs that are always 0."""
    weight, inputs = torch.randn(8, 32, generator=torch.Generator().manual_seed(4)), torch.zeros(10, 32)
    assert quantise_by_outputs(weight, inputs).dequantise().isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": torch.ones(3, 31)}, "rows of 32 numbers"),
        ({"damping": 0.0}, "damping=0.0"),
        ({"bits": 9}, "bits=9"),
        ({"group_size": 16}, "group_size=16"),
    ],
)
def test_what_cannot_be_rounded_is_refused(options, message, monkeypatch):
    """Catches an option that is accepted and leads to numbers without meaning."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as at a reader's: only tests check shapes
    with pytest.raises(ValueError, match=message):
        quantise_by_outputs(torch.ones(4, 32), **{"inputs": torch.ones(3, 32), **options})
