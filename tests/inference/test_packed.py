"""A matrix laid out anew multiplies as before."""

import copy
import pickle

import pytest
import torch
from torch import nn

from llmbook.compression import quantise_model
from llmbook.cpu import onednn
from llmbook.inference import PackedLinear, fuse, generate, pack_linears
from tests.inference.test_fused import ids, llama

pytestmark = pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN linear operator")


@pytest.fixture
def layouts(monkeypatch) -> list[torch.Tensor]:
    """The weights laid out so far."""
    made, real = [], onednn.laid_out
    monkeypatch.setattr(onednn, "laid_out", lambda weight: made.append(weight) or real(weight))
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_layer_multiplies_as_before(bias, dtype, layouts):
    """Catches rows and columns exchanged, a bias left out, and a layout that fits a single row only."""
    linear = nn.Linear(12, 20, bias=bias, dtype=dtype)
    packed = PackedLinear(linear)
    with torch.no_grad():
        for shape in ((1, 12), (2, 7, 12), (12,)):
            x = torch.randn(shape, dtype=dtype)
            torch.testing.assert_close(packed(x), linear(x))
    assert len(layouts) == 1


def test_a_weight_that_changes_is_laid_out_anew(layouts):
    """Catches yesterday's weight: changed in place, loaded, replaced, converted."""
    packed, x = PackedLinear(nn.Linear(4, 4)), torch.randn(3, 4)
    changes = [
        lambda: packed.weight.mul_(2),
        lambda: packed.load_state_dict(nn.Linear(4, 4).state_dict()),
        lambda: setattr(packed, "weight", nn.Parameter(torch.randn(4, 4))),
        lambda: packed.to(torch.bfloat16).to(torch.float32),
    ]
    with torch.no_grad():
        packed(x)
        for change in changes:
            change()
            torch.testing.assert_close(packed(x), x @ packed.weight.T + packed.bias)
    assert len(layouts) == 1 + len(changes)


def test_a_weight_made_in_inference_mode_is_packed_too():
    """Catches a question for the version of a tensor that has none."""
    with torch.inference_mode():
        packed, x = PackedLinear(nn.Linear(4, 4)), torch.randn(2, 4)
        torch.testing.assert_close(packed(x), x @ packed.weight.T + packed.bias)


def test_elsewhere_it_is_a_linear_layer(layouts):
    """Catches a gradient lost, and a product in another precision than was asked for."""
    packed, x = PackedLinear(nn.Linear(4, 4)), torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(3, 4)  # of each output in the sum
    (packed(x) * weight).sum().backward()
    torch.testing.assert_close(packed.weight.grad, weight.T @ x.detach())
    torch.testing.assert_close(x.grad, weight @ packed.weight.detach())
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert packed(x).dtype == torch.bfloat16
        assert packed.double()(x.double()).dtype == torch.float64
    assert layouts == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_leaves_the_layout_behind(copied):
    """Catches a model that can be neither copied nor saved once it has written a token."""
    packed, x = PackedLinear(nn.Linear(4, 4)), torch.randn(3, 4)
    with torch.no_grad():
        expected = packed(x)
        torch.testing.assert_close(copied(packed)(x), expected)


def test_a_packed_model_writes_the_same_text_from_the_same_state():
    """Catches a layer missed, and names or ties of the state that packing changes."""
    model, packed = fuse(llama()), fuse(llama())
    pack_linears(packed)
    assert not any(type(part) is nn.Linear for part in packed.modules())
    assert packed.lm_head.weight is packed.tokens.weight
    assert packed.state_dict().keys() == model.state_dict().keys()
    written = [generate(m, ids(1, 4), max_new_tokens=12, temperature=0) for m in (model, packed)]
    assert torch.equal(*written)
    with torch.no_grad():
        torch.testing.assert_close(packed(ids()).logits, model(ids()).logits, atol=1e-4, rtol=1e-4)


def test_nothing_to_pack_and_no_onednn_are_said(monkeypatch):
    """Catches a call that changes nothing in silence, and an attribute error in place of a word."""
    model = fuse(llama())
    quantise_model(model, bits=8, skip=())
    with pytest.raises(ValueError, match=r"no nn\.Linear to pack; quantised layers"):
        pack_linears(model)
    monkeypatch.setattr(onednn, "available", lambda: False)
    with pytest.raises(ValueError, match="without oneDNN"):
        pack_linears(nn.Sequential(nn.Linear(2, 2)))
