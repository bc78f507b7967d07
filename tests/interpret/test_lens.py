"""Reading the stream early, and dividing a logit among the parts that made it."""

import pytest
import torch
import torch.nn.functional as F

from llmbook.adaptation import add_lora
from llmbook.interpret import capture, logit_attribution, logit_lens, patch, read_out
from llmbook.model import DecoderLM, TransformerConfig
from tests.model.helpers import random_ids, shake, small_lm

KINDS = {
    "gpt2": dict(),
    "llama": dict(positions="rope", norm="rmsnorm", feed_forward="swiglu", bias=False, n_kv_heads=2),
    "gains of 1 + weight": dict(
        positions="rope",
        norm="rmsnorm",
        zero_centred_norm=True,
        bias=False,
        qkv_bias=True,
        sliding_window=3,
        full_layers=(1,),
        attention_cap=1.0,
    ),
    "untied": dict(tie_embeddings=False, logit_scale=0.7, scale_embeddings=True, positions="sinusoidal"),
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_last_layer_is_the_model(kind):
    """The last norm left out or applied twice, a factor before the output layer lost, an order turned round."""
    model, ids = small_lm(**KINDS[kind]), random_ids(2, 7)
    lens = logit_lens(model, ids)
    assert lens.shape == (3, 2, 7, 31)
    assert torch.equal(lens[-1], model(ids).logits)
    embeddings = model(ids, need_hidden=True).hidden_states[0]
    expected = F.linear(model.backbone.final_norm(embeddings), model.lm_head.weight) * model.config.logit_scale
    torch.testing.assert_close(lens[0], expected)
    # A block that adds nothing changes nothing the lens sees.
    still = {"backbone.blocks.0.attention": torch.zeros_like, "backbone.blocks.0.feed_forward": torch.zeros_like}
    with patch(model, still):
        lens = logit_lens(model, ids)
    assert torch.equal(lens[0], lens[1])
    assert not torch.allclose(lens[1], lens[2], atol=1e-2)


@torch.no_grad()
def test_the_lens_passes_other_arguments_on():
    """Padding read by the lens and not by the model."""
    model, ids = small_lm(), random_ids(2, 7)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[0, :3] = 0
    assert torch.equal(logit_lens(model, ids, attention_mask=mask)[-1], model(ids, attention_mask=mask).logits)


@torch.no_grad()
def test_read_out_of_captured_states():
    """A stream of any shape: one vector is read like a batch of them."""
    model, ids = small_lm(), random_ids(2, 7)
    with capture(model, "backbone.blocks.0") as states:
        model(ids)
    torch.testing.assert_close(read_out(model, states["backbone.blocks.0"][1, 3]), logit_lens(model, ids)[1, 1, 3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", [-1, 2])
@torch.no_grad()
def test_the_parts_of_a_logit_sum_to_it(kind, position):
    """A part forgotten (a bias), counted twice, or scaled by a norm of its own."""
    model, ids = small_lm(**KINDS[kind]), random_ids(3, 7)
    target, against = torch.tensor([3, 30, 7]), torch.tensor([1, 2, 3])
    logits = model(ids).logits[:, position]
    rows = torch.arange(3)
    parts = logit_attribution(model, ids, target, position=position)
    torch.testing.assert_close(parts.total, logits[rows, target], atol=1e-4, rtol=1e-4)
    assert parts.heads.shape == (2, 4, 3)
    assert parts.feed_forward.shape == parts.attention_bias.shape == (2, 3)
    if not model.config.bias:
        assert parts.attention_bias.abs().max() < 1e-5
        assert parts.norm_bias.abs().max() == 0
    parts = logit_attribution(model, ids, target, against=against, position=position)
    torch.testing.assert_close(parts.total, logits[rows, target] - logits[rows, against], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_each_part_has_its_own_share():
    """The right sum with heads or layers exchanged: the share of a part is its logit with the norm's factor held."""
    model, ids = small_lm(), random_ids(1, 7)
    parts = logit_attribution(model, ids, torch.tensor([5]))
    stream = model(ids, need_hidden=True).hidden_states[-1][0, -1]
    factor = (stream.var(correction=0) + model.config.norm_eps).rsqrt()
    direction = model.lm_head.weight[5] * model.backbone.final_norm.weight * factor
    direction = direction - direction.mean()
    with capture(model, ["backbone.blocks.1.feed_forward", "backbone.blocks.1.attention.o_proj.input"]) as states:
        model(ids)
    torch.testing.assert_close(parts.feed_forward[1, 0], states["backbone.blocks.1.feed_forward"][0, -1] @ direction)
    d_head = model.config.d_head
    mixed = states["backbone.blocks.1.attention.o_proj.input"][0, -1]
    for head in range(4):
        own = slice(head * d_head, (head + 1) * d_head)
        added = model.backbone.blocks[1].attention.o_proj.weight[:, own] @ mixed[own]
        torch.testing.assert_close(parts.heads[1, head, 0], added @ direction)


@pytest.mark.parametrize("target", ["o_proj", "lm_head"])
def test_an_adapted_model_is_refused(target):
    """A correction beside the matrix that no part gets its share of."""
    model = small_lm()
    add_lora(model, target_modules=target)
    with pytest.raises(ValueError, match="LoRALinear has no plain weight"):
        logit_attribution(model, random_ids(1, 4), torch.tensor([0]))


def test_a_post_norm_model_is_refused():
    """A sum claimed where every block normalises what the ones before it added."""
    config = TransformerConfig(vocab_size=31, d_model=24, n_layers=1, n_heads=4, norm_position="post")
    with pytest.raises(ValueError, match="not a sum of parts"):
        logit_attribution(shake(DecoderLM(config)), random_ids(1, 4), torch.tensor([0]))
    for change, message in (
        (dict(norm_position="sandwich"), "norm_position='sandwich' normalises what heads say together"),
        (dict(norm_position="pre", logit_cap=5.0), r"logit_cap=5\.0 bends every logit"),
    ):
        with pytest.raises(ValueError, match=message):
            logit_attribution(DecoderLM(config.replace(**change)), random_ids(1, 4), torch.tensor([0]))
