"""Classic mistakes of quantisation, made on purpose: for each, a named test of this folder must notice.

As in ``tests/model/test_mutations.py``, each case patches one mistake into the library, runs the test that is meant
to catch it, and demands that the test fails.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from llmbook.compression import Int4Linear, linear
from tests.compression import test_linear, test_quantise
from tests.mutations import must_be_noticed

real = dict(
    arrange=Int4Linear._arrange,
    quantised=Int4Linear.quantised,
    unpack=linear.unpack_nibbles,
)


def zero_is_that_of_code(code: int):
    """The packed kernel told the number of another code than 8."""

    def arrange(layer):
        codes, group_size, pairs = real["arrange"](layer)
        scales, middle = pairs.unbind(2)
        return codes, group_size, torch.stack((scales, middle + (code - 8) * scales), dim=2)

    return arrange


def scales_and_zeros_exchanged(layer):
    codes, group_size, pairs = real["arrange"](layer)
    return codes, group_size, pairs.flip(2).contiguous()


def plain() -> None:
    test_linear.test_plain_is_the_product_with_the_dequantised_weight(Int4Linear, {"group_size": 32}, bias=True)


def packed() -> None:
    test_linear.test_the_packed_kernel_computes_the_same(Int4Linear, {"group_size": 32}, torch.float32, 3)


MUTATIONS: dict[str, tuple[object, str, object, Callable[[], None]]] = {
    "zeros forgotten": (
        Int4Linear, "quantised", lambda layer: replace(real["quantised"](layer), zeros=None), plain,
    ),
    "zeros of the wrong sign": (
        Int4Linear, "quantised", lambda layer: replace(q := real["quantised"](layer), zeros=-q.zeros), plain,
    ),
    "the two codes of a byte exchanged": (
        linear, "unpack_nibbles", lambda packed: real["unpack"](packed).unflatten(1, (-1, 2)).flip(2).flatten(1), plain,
    ),
    "the packed kernel's zero is that of code 0": (
        Int4Linear, "_arrange", zero_is_that_of_code(0), packed,
    ),
    "the packed kernel's zero is off by one step": (
        Int4Linear, "_arrange", zero_is_that_of_code(7), packed,
    ),
    "the packed kernel's scales and zeros exchanged": (
        Int4Linear, "_arrange", scales_and_zeros_exchanged, packed,
    ),
    "rounding down": (
        torch.Tensor, "round", torch.Tensor.floor,
        lambda: test_quantise.test_absmax_is_pytorchs_quantisation(8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    """A test that would pass whatever the library computes."""
    must_be_noticed(*MUTATIONS[name], monkeypatch)
