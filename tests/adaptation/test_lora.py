"""LoRA against its formula and against peft: outputs, gradients, merging, files."""

import copy

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from llmbook.adaptation import (
    LoRALinear,
    add_lora,
    load_lora,
    lora_state_dict,
    merge,
    remove_lora,
    save_lora,
    unfreeze,
    unmerge,
    without_lora,
)
from llmbook.compression import Int8Linear
from tests.adaptation.helpers import LLAMA, backward, lm, logits, with_gradient
from tests.model.helpers import random_ids


def tuned(r: int = 3, seed: int = 5, **overrides):
    """A model whose LoRA has learned something: B is no longer zero."""
    model = lm(**overrides)
    add_lora(model, r=r, lora_alpha=6)
    learn(model, seed)
    return model


def learn(model, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    for tensor in lora_state_dict(model).values():
        tensor.normal_(0, 0.3, generator=generator)


@pytest.mark.parametrize("kind", [{}, LLAMA], ids=["gpt2", "llama"])
def test_the_start_changes_nothing(kind):
    """Catches a B that does not start at zero."""
    model = lm(**kind)
    before = logits(model)
    add_lora(model, target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "lm_head"))
    assert torch.equal(logits(model), before)


def test_the_formula_in_float64():
    """Catches α/r dropped or turned over, A and B exchanged, and dropout outside training."""
    base = nn.Linear(5, 4).double()
    layer = LoRALinear(base, r=2, lora_alpha=7, lora_dropout=0.5).eval()
    nn.init.normal_(layer.lora_B)
    x = torch.randn(3, 5, dtype=torch.float64)
    expected = x @ (base.weight + 7 / 2 * layer.lora_B @ layer.lora_A).T + base.bias
    torch.testing.assert_close(layer(x), expected)


def test_dropout_touches_the_correction_alone():
    """Catches dropout on the input of the frozen layer: then even the start would be another model."""
    layer = LoRALinear(nn.Linear(50, 50), r=2, lora_alpha=7, lora_dropout=0.5).train()
    x = torch.randn(3, 50)
    assert torch.equal(layer(x), layer.base(x))
    nn.init.normal_(layer.lora_B)
    assert not torch.equal(layer(x), layer(x))


def test_only_the_new_matrices_learn():
    """Catches a base that is still trained, and targets that were not found in every layer."""
    model = tuned()
    backward(model)
    expected = {
        f"backbone.blocks.{i}.attention.{p}_proj.lora_{m}" for i in range(2) for p in ("q", "v") for m in ("A", "B")
    }
    assert with_gradient(model) == expected == {n for n, p in model.named_parameters() if p.requires_grad}


def test_same_as_peft():
    """Catches any other difference from the reference: scaling, the place of bias, gradients."""
    peft = pytest.importorskip("peft", reason="peft is not installed; the formula is tested without it")
    plain = lm(**LLAMA)
    ours, theirs = copy.deepcopy(plain), copy.deepcopy(plain)
    targets = ["q_proj", "v_proj", "up_proj"]
    add_lora(ours, r=3, lora_alpha=5, target_modules=targets)
    learn(ours)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets)
    theirs = peft.inject_adapter_in_model(config, theirs)
    renamed = {f"{name}.default.weight": tensor for name, tensor in lora_state_dict(ours).items()}
    assert not theirs.load_state_dict(renamed, strict=False).unexpected_keys
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=0)
    backward(ours)
    backward(theirs)
    grads = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, grads[f"{name}.default.weight"].grad, atol=1e-4, rtol=1e-4)


def test_merge_and_back():
    """Catches a merged sum that is only subtracted again (not bit-exact), and a second merge that adds twice."""
    model = tuned()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apart = logits(model)
    merge(model)
    together = logits(model)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    merge(model)
    assert torch.equal(logits(model), together)
    layer = model.backbone.blocks[0].attention.q_proj
    assert "r=3, lora_alpha=6, merged=True" in repr(layer)
    assert not torch.equal(layer.base.weight, weights["backbone.blocks.0.attention.q_proj.base.weight"])
    unmerge(model)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(logits(model), apart)


def test_merging_a_tied_projection_leaves_the_embeddings_alone():
    """Catches a correction to the output matrix that also changes what the tied token table feeds in."""
    model = lm(tie_embeddings=True)
    add_lora(model, r=2, target_modules=["lm_head"])
    learn(model)
    apart = logits(model)
    merge(model)
    torch.testing.assert_close(logits(model), apart, atol=1e-5, rtol=0)
    unmerge(model)
    assert model.lm_head.base.weight is model.backbone.embeddings.tokens.weight


def test_unmerge_follows_a_model_that_moved():
    """Catches an original weight left behind in the old precision (or on the old device)."""
    model = tuned()
    merge(model)
    model.double()
    unmerge(model)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert logits(model).dtype == torch.float64


def test_removing_gives_the_plain_model_with_or_without_the_correction():
    """Catches left-over wrappers, foreign names in the state dict, and weights that stay frozen."""
    model, plain = tuned(), lm()
    apart = logits(model)
    shipped = copy.deepcopy(model)
    remove_lora(model)
    assert torch.equal(logits(model), logits(plain))
    merge(shipped)
    remove_lora(shipped)
    torch.testing.assert_close(logits(shipped), apart, atol=1e-5, rtol=0)
    for restored in (model, shipped):
        assert restored.state_dict().keys() == plain.state_dict().keys()
        assert all(p.requires_grad for p in restored.parameters())


def test_without_lora_is_the_model_before():
    """Catches a reference that still carries the correction, and one that loses it for good, even after an error."""
    model, plain = tuned(), lm()
    apart = logits(model)
    with without_lora(model):
        assert torch.equal(logits(model), logits(plain))
    with pytest.raises(KeyError), without_lora(model):
        raise KeyError
    assert torch.equal(logits(model), apart)
    merge(model)
    with pytest.raises(ValueError, match="unmerge"), without_lora(model):
        pass


def test_a_quantised_base_learns_but_does_not_merge():
    """Catches a correction that needs the base's weight: QLoRA's base has none to compute with."""
    model = lm()
    attention = model.backbone.blocks[0].attention
    attention.q_proj = Int8Linear.from_linear(attention.q_proj)
    before = logits(model)
    add_lora(model, r=2, lora_alpha=4, target_modules=["q_proj"])
    assert torch.equal(logits(model), before)
    learn(model)
    layer, x = attention.q_proj, torch.randn(3, 16)
    torch.testing.assert_close(layer(x), layer.base(x) + 2 * x @ (layer.lora_B @ layer.lora_A).T)
    backward(model)
    assert "backbone.blocks.0.attention.q_proj.lora_A" in with_gradient(model)
    remove_lora(model)
    add_lora(model, r=2, target_modules=["v_proj", "q_proj"])  # v_proj, and the other q_proj, could be merged
    with pytest.raises(ValueError, match=r"Int8Linear has no weight .*quantised"):
        merge(model)
    assert not any(part.merged for part in model.modules() if isinstance(part, LoRALinear))


@pytest.mark.parametrize("quantised", [False, True])
def test_half_precision_stays_half_precision(quantised):
    """Catches a correction in float32, as beside a quantised base, that lifts the whole stream out of its precision."""
    attention = (model := lm().to(torch.bfloat16)).backbone.blocks[0].attention
    if quantised:
        attention.q_proj = Int8Linear.from_linear(attention.q_proj)
    add_lora(model, r=2, target_modules=["q_proj"])
    x = torch.randn(2, 3, 16, dtype=torch.bfloat16)
    assert attention.q_proj.lora_A.dtype == (torch.float32 if quantised else torch.bfloat16)
    assert attention.q_proj(x).dtype == torch.bfloat16
    assert logits(model).dtype == torch.bfloat16


def test_a_file_of_its_own(tmp_path):
    """Catches a file that holds the whole model, or one that comes back with another scaling."""
    model = tuned()
    save_lora(model, tmp_path / "new" / "lora.safetensors")
    assert (tmp_path / "new" / "lora.safetensors").stat().st_size < 4000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lora.safetensors"]
    fresh = lm()
    load_lora(fresh, tmp_path / "new" / "lora.safetensors")
    assert torch.equal(logits(fresh), logits(model))
    other = tuned(seed=9)
    load_lora(other, tmp_path / "new" / "lora.safetensors")
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda model: add_lora(model, r=4, lora_alpha=6), "made with r=3, the model has r=4"),
        (lambda model: add_lora(model, r=3, lora_alpha=9), "lora_alpha=6, the model has lora_alpha=9"),
        (lambda model: add_lora(model, r=3, lora_alpha=6, target_modules=["q_proj"]), "different layers: .*v_proj"),
        (lambda model: (add_lora(model, r=3, lora_alpha=6), learn(model), merge(model)), "unmerge"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, prepare, message):
    """Catches a file loaded in part, or into other layers than it was trained in."""
    save_lora(tuned(), tmp_path / "lora")
    model = lm()
    prepare(model)
    before = logits(model)
    with pytest.raises(ValueError, match=message):
        load_lora(model, tmp_path / "lora")
    assert torch.equal(logits(model), before)


def test_a_file_for_another_model_leaves_a_plain_one_plain(tmp_path):
    """Catches layers added before the file was found not to fit."""
    save_lora(tuned(), tmp_path / "lora")
    for model, message in (
        (lm(n_layers=1), r"backbone\.blocks\.1\.attention\.q_proj.*no linear layers"),
        (lm(d_model=32), r"of size \(3, 16\), the model needs \(3, 32\)"),
    ):
        names = model.state_dict().keys()
        with pytest.raises(ValueError, match=message):
            load_lora(model, tmp_path / "lora")
        assert model.state_dict().keys() == names


def test_a_foreign_file_is_refused(tmp_path):
    """Catches a traceback from the depths of safetensors in place of a sentence."""
    (tmp_path / "text").write_text("no tensors here")
    with pytest.raises(ValueError, match="text cannot be read as safetensors"):
        load_lora(lm(), tmp_path / "text")
    with pytest.raises(ValueError, match="nothing cannot be read"):
        load_lora(lm(), tmp_path / "nothing")
    save_file({"lora_A": torch.zeros(2)}, tmp_path / "other", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="other is no LoRA of this library: its format is 'pt'"):
        load_lora(lm(), tmp_path / "other")


def test_a_file_with_a_matrix_missing_is_refused(tmp_path):
    """Catches layers that keep a B of zero, as if they had been loaded."""
    model = tuned()
    save_lora(model, tmp_path / "lora")
    with safe_open(tmp_path / "lora", framework="pt") as file:
        metadata = file.metadata()
    tensors = lora_state_dict(model)
    tensors.pop("backbone.blocks.1.attention.v_proj.lora_B")
    save_file(tensors, tmp_path / "lora", metadata=metadata)
    plain = lm()
    with pytest.raises(ValueError, match=r"lora lacks backbone\.blocks\.1\.attention\.v_proj\.lora_B"):
        load_lora(plain, tmp_path / "lora")
    assert plain.state_dict().keys() == lm().state_dict().keys()


def test_bad_arguments_are_named():
    """Catches a target that is not there and would leave nothing to train; LoRA on LoRA."""
    model = lm()
    names = model.state_dict().keys()
    with pytest.raises(ValueError, match=r"called 'query'; there are down_proj, k_proj, lm_head, o_proj, q_proj"):
        add_lora(model, target_modules=["q_proj", "query"])
    with pytest.raises(ValueError, match="called 'proj'"):  # the end of a word is not its name
        add_lora(model, target_modules=["proj"])
    for arguments, message in (
        ({"r": 0}, "r=0"),
        ({"r": 2.5}, "r=2.5: the rank of the correction must be a whole number"),
        ({"lora_alpha": float("nan")}, "lora_alpha=nan"),
        ({"lora_alpha": float("inf")}, "lora_alpha=inf"),
        ({"lora_alpha": 0}, "lora_alpha=0"),
        ({"lora_dropout": 1.0}, "lora_dropout=1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            add_lora(model, **arguments)
    assert model.state_dict().keys() == names
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="has no LoRA"):
        merge(model)
    add_lora(model)
    with pytest.raises(ValueError, match="has LoRA already"):
        add_lora(model, target_modules=["k_proj"])


def test_a_longer_name_means_one_layer_and_norms_can_train_along():
    """Catches a target that matches the end of another word, and a freeze that comes too late."""
    model = lm()
    add_lora(model, target_modules="blocks.[1-9].attention.q_proj")
    unfreeze(model, "backbone.final_norm")
    backward(model, random_ids(2, 7))
    ours = "backbone.blocks.1.attention.q_proj"
    assert with_gradient(model) == {f"{ours}.lora_B", "backbone.final_norm.weight", "backbone.final_norm.bias"}
