"""Layers of whole numbers: what they compute, what they store, and a whole model of them."""

import copy
import pickle

import pytest
import torch
from torch import nn

from llmbook.compression import Int4Linear, Int8Linear, quantise_absmax, quantise_groups, quantise_model
from llmbook.model import DecoderLM
from llmbook.training import evaluate
from tests.compression.helpers import noisy_counting, tiny_lm, trained_lm

LAYERS = [
    pytest.param(Int8Linear, {}, id="8 bits"),
    pytest.param(Int4Linear, {"group_size": 32}, id="4 bits, groups of 32"),
    pytest.param(Int4Linear, {"group_size": 64}, id="4 bits, groups of 64"),
]


def linear(bias: bool = True) -> nn.Linear:
    """Outputs of very different size, so that scales on the wrong axis show."""
    layer = nn.Linear(128, 48, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(0.1, 10, 48)[:, None])
    return layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_plain_is_the_product_with_the_dequantised_weight(kind, options, bias):
    """Catches scales or zeros lost on the way into the buffers, nibbles out of order, and a forgotten bias."""
    layer = linear(bias)
    weight, x = layer.weight.detach(), torch.randn(2, 3, 128)
    if kind is Int8Linear:
        expected = quantise_absmax(weight, dtype=torch.bfloat16).dequantise()
    else:
        expected = quantise_groups(weight, dtype=torch.bfloat16, **options).dequantise()
    made = kind.from_linear(layer, **options)
    torch.testing.assert_close(made(x), nn.functional.linear(x, expected, layer.bias))
    error = (made(x) - layer(x)).norm() / layer(x).norm()
    assert error < (0.01 if kind is Int8Linear else 0.12)


@pytest.mark.parametrize("positions", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_the_packed_kernel_computes_the_same(kind, options, dtype, positions):
    """Catches codes arranged wrongly for the kernel, a zero off by 8 steps or of the wrong sign, scales and zeros in
    the wrong order, and a lost leading axis or precision. The kernel's arithmetic is bfloat16: 8 significant bits."""
    layer = linear()
    x = torch.randn(1, positions, 128).to(dtype)
    plain, packed = (kind.from_linear(layer, kernel=kernel, **options) for kernel in ("plain", "packed"))
    reference, out = plain(x.float()), packed(x)
    assert out.dtype == dtype
    assert out.shape == (1, positions, 48)
    torch.testing.assert_close(out.float(), reference, rtol=2**-6, atol=2**-7 * reference.abs().max().item())


@pytest.mark.parametrize("kernel", ["plain", "packed"])
@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_a_saved_layer_is_small_and_loads_back(kind, options, kernel, tmp_path):
    """Catches integers stored as floats, codes a byte each at 4 bits, and a kernel that goes on with the codes it
    arranged before others were loaded."""
    saved, other = (kind.from_linear(linear(), kernel=kernel, **options) for _ in range(2))
    x = torch.randn(2, 128)
    before = other(x)
    torch.save(saved.state_dict(), tmp_path / "layer.pt")
    other.load_state_dict(torch.load(tmp_path / "layer.pt"))
    assert torch.equal(other(x), saved(x))
    assert not torch.equal(other(x), before)
    n_bytes = sum(tensor.nbytes for tensor in saved.state_dict().values())
    n_weights = 128 * 48
    overhead = 48 * 4 + (48 * 2 if kind is Int8Linear else n_weights // options["group_size"] * 4)
    assert n_bytes == n_weights * (1 if kind is Int8Linear else 0.5) + overhead


@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_copies_and_pickles_leave_the_arrangement_behind(kind, options):
    """Catches a whole layer saved with the packed kernel's second copy, in an order another processor misreads."""
    layer = kind.from_linear(linear(), kernel="packed", **options)
    fresh = len(pickle.dumps(layer))
    out = layer(x := torch.randn(2, 128))
    assert len(pickle.dumps(layer)) == fresh
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert again._arranged is None
        assert torch.equal(again(x), out)
    assert layer._arranged is not None


def test_gradients_reach_what_comes_before():
    """Catches a layer that cuts the graph: adapters below a frozen quantised layer train through it."""
    made = Int4Linear.from_linear(linear(bias=False))
    x = torch.randn(3, 128, requires_grad=True)
    made(x).sum().backward()
    torch.testing.assert_close(x.grad, made.quantised().dequantise().sum(0).expand(3, -1))


def test_a_printed_layer_says_how_it_is_stored():
    """Catches a layer that cannot be told from another when a model is printed."""
    assert repr(Int8Linear(32, 16, bias=False)) == "Int8Linear(32, 16, bias=False, kernel='plain')"
    assert "group_size=64" in repr(Int4Linear(64, 16, group_size=64))


def test_an_impossible_kernel_is_refused():
    """Catches a crash inside a kernel, or a wrong kernel taken in silence."""
    with pytest.raises(ValueError, match="kernel='fast' is not one of 'plain', 'packed'"):
        Int8Linear(32, 16, kernel="fast")
    with pytest.raises(ValueError, match="out_features=17 is not a multiple of 16"):
        Int4Linear(32, 17, kernel="packed")
    with pytest.raises(ValueError, match="48 inputs are not divisible by group_size=32"):
        Int4Linear(48, 16)
    with pytest.raises(ValueError, match="the input is on meta: use kernel='plain'"):
        Int8Linear(32, 16, kernel="packed")(torch.empty(1, 32, device="meta"))


@pytest.mark.parametrize(("bits", "most"), [(8, 1.002), (4, 1.05)])
@pytest.mark.parametrize("kernel", ["plain", "packed"])
def test_a_trained_model_hardly_gets_worse(bits, most, kernel, trained):
    """Catches everything that leaves shapes right and numbers wrong: perplexity rises by at most 0.2 % at 8 bits and
    5 % at 4, where a transposed scale or a wrong zero multiplies it."""
    model, batches = copy.deepcopy(trained), noisy_counting(6, seed=9)
    before = evaluate(model, batches).perplexity
    assert before < 16, "the model has learned nothing (guessing is 48): the test would show nothing"
    quantise_model(model, bits=bits, skip=(), kernel=kernel)
    assert evaluate(model, batches).perplexity < before * most


@pytest.fixture(scope="module")
def trained() -> DecoderLM:
    return trained_lm()


def test_layers_are_replaced_by_name():
    """Catches a skipped layer that is quantised all the same, a part's layers forgotten, and norms touched."""
    model = tiny_lm()
    report = quantise_model(model, bits=4, skip=("lm_head", "backbone.blocks.0", "backbone.blocks.1.attention.v_proj"))
    kinds = {name: type(module) for name, module in model.named_modules() if hasattr(module, "in_features")}
    quantised = {name for name, kind in kinds.items() if kind is Int4Linear}
    assert quantised == {
        *(f"backbone.blocks.1.attention.{part}_proj" for part in "qko"),
        *(f"backbone.blocks.1.feed_forward.{part}_proj" for part in ("gate", "up", "down")),
    }
    assert set(report.parts) == quantised
    assert quantise_model(model, bits=8).parts.keys() == {
        *(f"backbone.blocks.0.attention.{part}_proj" for part in "qkvo"),
        *(f"backbone.blocks.0.feed_forward.{part}_proj" for part in ("gate", "up", "down")),
        "backbone.blocks.1.attention.v_proj",
    }


def test_a_tied_head_becomes_a_quantised_copy():
    """Catches the embedding quantised with the head, or lost: it stays the float table, and looks up as before."""
    model, reference = tiny_lm(), tiny_lm()
    assert model.config.tie_embeddings
    report = quantise_model(model, bits=8, skip="blocks.*")
    assert list(report.parts) == ["lm_head"]  # the default skip was replaced
    assert isinstance(model.lm_head, Int8Linear)
    table = model.backbone.embeddings.tokens.weight
    assert torch.equal(table, reference.backbone.embeddings.tokens.weight)
    assert isinstance(table, nn.Parameter)
    expected = quantise_absmax(table.detach(), dtype=torch.bfloat16)
    assert torch.equal(model.lm_head.codes, expected.codes)
    assert report.parts["lm_head"] == (0, 48 * 32 + 48 * 2)
    assert report.after - report.before == 48 * 32 + 48 * 2


@pytest.mark.parametrize("tied", [True, False])
def test_the_report_is_the_size_of_the_saved_model(tied, tmp_path):
    """Catches a shared table counted twice and a report that does not add up to what is on the disk."""
    model = tiny_lm(tie_embeddings=tied)
    report = quantise_model(model, bits=4, skip=())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert 0 <= (tmp_path / "model.pt").stat().st_size - report.after < 40_000  # names and headers
    saved = sum(before - after for before, after in report.parts.values())
    assert report.before - report.after == saved
    assert report.before == sum(p.nbytes for p in tiny_lm(tie_embeddings=tied).parameters())
    assert str(report).startswith("15 layers: 0.")


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_model_loads_into_a_fresh_one(bits):
    """Catches codes that are no part of the state, and a head tied again on loading."""
    model, fresh = tiny_lm(), DecoderLM(tiny_lm().config)
    quantise_model(model, bits=bits, skip=())
    quantise_model(fresh, bits=bits, skip=())
    fresh.load_state_dict(model.state_dict())
    ids = torch.randint(48, (2, 9))
    assert torch.equal(fresh(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, "bits=3: there are linear layers of 8 and of 4 bits"),
        ({"bits": 8, "group_size": 32}, "group_size=32 has no meaning at 8 bits"),
        ({"bits": 4, "group_size": 128}, r"backbone.blocks.0.attention.q_proj: rows of 32 inputs .* group_size=128"),
        ({"bits": 4, "group_size": 0}, "group_size=0"),
        ({"skip": ("head",)}, "skip names 'head'"),
        ({"skip": ("lm_head", "backbone")}, "no linear layer is left in DecoderLM"),
        ({"kernel": "fast"}, "kernel='fast'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(options, message):
    """Catches a model left half quantised, a misspelt name that skips nothing, a size of 0 taken for none given."""
    model = tiny_lm()
    with pytest.raises(ValueError, match=message):
        quantise_model(model, **options)
    assert not any(isinstance(module, (Int8Linear, Int4Linear)) for module in model.modules())
