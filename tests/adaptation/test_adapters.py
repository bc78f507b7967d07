"""Adapters: where they stand, what they compute, and that nothing else learns."""

import pytest
import torch
from torch.nn import functional as F

from llmbook.adaptation import (
    LoRALinear,
    add_adapters,
    add_lora,
    merge,
    remove_adapters,
    trainable_report,
    unfreeze,
)
from tests.adaptation.helpers import LLAMA, backward, lm, logits, with_gradient


@pytest.mark.parametrize("kind", [{}, LLAMA, {"norm_position": "post"}], ids=["gpt2", "llama", "post-norm"])
def test_the_start_changes_nothing(kind):
    """Catches an adapter that replaces what it should add to, or whose second matrix does not start at zero."""
    model = lm(**kind)
    before = logits(model)
    add_adapters(model, bottleneck=4)
    assert torch.equal(logits(model), before)


def test_it_corrects_what_the_sublayer_adds():
    """Catches an adapter before the sublayer, without its own residual path, or without the bend."""
    model = lm()
    add_adapters(model, bottleneck=4)
    adapted = model.backbone.blocks[0].attention.o_proj
    for p in adapted.adapter.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, 3, 16)
    h = F.linear(x, adapted.base.weight, adapted.base.bias)
    down, up = adapted.adapter.down_proj, adapted.adapter.up_proj
    expected = h + F.gelu(h @ down.weight.T + down.bias) @ up.weight.T + up.bias
    torch.testing.assert_close(adapted(x), expected)
    assert trainable_report(model).n_trainable == 4 * (16 * 4 + 4 + 4 * 16 + 16)  # 2 layers, 2 sublayers each


def test_only_adapters_learn_and_norms_if_asked():
    """Catches a base that trains along."""
    model = lm()
    add_adapters(model, bottleneck=4)
    unfreeze(model, "*_norm")
    backward(model)
    moved = with_gradient(model)
    assert any(".adapter.up_proj" in name for name in moved)
    assert any("_norm." in name for name in moved)
    assert all(".adapter." in name or "_norm." in name for name in moved)


def test_removing_gives_the_model_from_before():
    """Catches left-over wrappers and weights that stay frozen."""
    model, plain = lm(), lm()
    add_adapters(model, bottleneck=4)
    torch.nn.init.normal_(model.backbone.blocks[1].feed_forward.down_proj.adapter.up_proj.weight)
    assert not torch.equal(logits(model), logits(plain))
    remove_adapters(model)
    assert torch.equal(logits(model), logits(plain))
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(p.requires_grad for p in model.parameters())


def test_lora_on_an_adapted_model_wraps_the_layer_and_not_the_adapter():
    """Catches matrices inside an adapter, whose names end like the model's own, taken for layers of the model."""
    model = lm()
    add_adapters(model, bottleneck=4)
    before = logits(model)
    add_lora(model, r=2, target_modules=["down_proj", "up_proj"])
    found = {name for name, part in model.named_modules() if isinstance(part, LoRALinear)}
    assert found == {f"backbone.blocks.{i}.feed_forward.{p}_proj" for i in range(2) for p in ("up", "down")}
    assert torch.equal(logits(model), before)
    with pytest.raises(ValueError, match="AdaptedLinear has no weight of its own"):
        merge(model)


def test_bad_arguments_are_named():
    """Catches adapters behind adapters, and a model half changed."""
    model = lm()
    with pytest.raises(ValueError, match="bottleneck=0"):
        add_adapters(model, bottleneck=0)
    with pytest.raises(ValueError, match="has no adapters"):
        remove_adapters(model)
    assert all(p.requires_grad for p in model.parameters())
    add_adapters(model)
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(model)
