"""Scores of heads on patterns built by hand, and what a head adds and is worth."""

import pytest
import torch
import torch.nn.functional as F

from llmbook.interpret import (
    ablation_effect,
    capture,
    contributions,
    duplicate_token_score,
    head_scores,
    induction_score,
    offset_score,
    previous_token_score,
    repeated_tokens,
    without_heads,
)
from llmbook.model import Encoder, EncoderDecoderLM, MaskedLM, SequenceClassifier, TransformerConfig
from tests.model.helpers import random_ids, shake, small_lm


def looking_back(offsets, n, batch=2):
    """One layer a row, one head an entry: all weight of position t on t - offset, or on 0 where there is none."""
    layers = []
    for row in offsets:
        weights = torch.zeros(batch, len(row), n, n)
        for head, offset in enumerate(row):
            for t in range(n):
                weights[:, head, t, max(t - offset, 0)] = 1
        layers.append(weights)
    return tuple(layers)


def test_scores_on_patterns_built_by_hand():
    """An offset wrong by one; the first copy counted; layers and heads exchanged."""
    n = 5
    attentions = looking_back([[1, n], [n - 1, 0], [n + 1, 2]], 2 * n)
    assert previous_token_score(attentions).shape == (3, 2)
    exact = torch.tensor
    # At position 1 every head above but the one of offset 0 looks at 0, which is also one back: 1 of 9 queries.
    near = 1 / 9
    torch.testing.assert_close(previous_token_score(attentions), exact([[1, near], [near, 0], [near, near]]))
    torch.testing.assert_close(
        duplicate_token_score(attentions, period=n), exact([[0, 1.0], [0, 0], [1 / n, 0]])
    )  # offset 6 finds nothing at position 5 and falls on 0, which is 5 back
    torch.testing.assert_close(induction_score(attentions, period=n), exact([[0.0, 0], [1, 0], [0, 0]]))


def test_scores_are_means_over_rows_and_queries():
    """A sum in place of a mean; only one row counted."""
    attentions = looking_back([[4]], 10, batch=2)
    attentions[0][1] = 0.1
    assert induction_score(attentions, period=5).item() == pytest.approx((1 + 0.1) / 2)
    with pytest.raises(ValueError, match="no position from 10 on looks 3 back in a sequence of 10"):
        offset_score(attentions, 3, first=10)
    with pytest.raises(ValueError, match="2 queries read 10 keys"):
        previous_token_score([attentions[0][:, :, 8:]])


def test_repeated_tokens():
    """Copies that differ, or a token twice in one copy, which has two predecessors."""
    ids = repeated_tokens(31, period=20, batch_size=4, generator=torch.Generator().manual_seed(0))
    assert ids.shape == (4, 40)
    assert torch.equal(ids[:, :20], ids[:, 20:])
    assert all(len(set(row.tolist())) == 20 for row in ids)
    assert not torch.equal(ids[0], ids[1])
    with pytest.raises(ValueError, match="40 different tokens cannot be drawn from a vocabulary of 31"):
        repeated_tokens(31, period=40)


def test_head_scores_of_a_model():
    """Scores of another period than the tokens', or of weights from another run."""
    model = small_lm(positions="rope")
    found = head_scores(model, period=6, batch_size=3, generator=torch.Generator().manual_seed(4))
    ids = repeated_tokens(31, period=6, batch_size=3, generator=torch.Generator().manual_seed(4))
    attentions = torch.stack(model(ids, need_weights=True).attentions).detach()
    by_hand = {
        "previous_token": sum(attentions[..., t, t - 1].mean(1) for t in range(1, 12)) / 11,
        "duplicate_token": sum(attentions[..., t, t - 6].mean(1) for t in range(6, 12)) / 6,
        "induction": sum(attentions[..., t, t - 5].mean(1) for t in range(6, 12)) / 6,
    }
    for name, expected in by_hand.items():
        torch.testing.assert_close(getattr(found, name), expected, msg=name)


MODELS = {
    "gpt2": lambda: small_lm(),
    "grouped": lambda: small_lm(positions="rope", n_kv_heads=2, norm="rmsnorm", bias=False),
    "bert": lambda: shake(
        Encoder(TransformerConfig.bert(vocab_size=31, max_seq_len=16, d_model=24, n_layers=2, n_heads=4)), 0.5
    ),
}


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_contributions_are_lengths_of_what_is_added(kind):
    """Values of the wrong key head, W^O of the wrong head, or a length of the sum in place of each summand."""
    model, ids = MODELS[kind](), random_ids(2, 5)
    found = contributions(model, ids)
    assert found.shape == (2, 2, 4, 5, 5)
    backbone = getattr(model, "backbone", model)
    prefix = "backbone." if backbone is not model else ""
    layer, attention = 1, backbone.blocks[1].attention
    name = f"{prefix}blocks.{layer}.attention"
    with capture(model, [f"{name}.v_proj", name]) as states:
        weights = model(ids, need_weights=True).attentions[layer]
    d, groups = model.config.d_head, model.config.n_heads // model.config.n_kv_heads
    total = torch.zeros(2, 5, 24)
    for head in range(4):
        v = states[f"{name}.v_proj"][..., (head // groups) * d : (head // groups + 1) * d]  # [B, T, D]
        carried = v @ attention.o_proj.weight[:, head * d : (head + 1) * d].T  # [B, T, C]
        added = weights[:, head, :, :, None] * carried[:, None]  # [B, T, T, C]
        torch.testing.assert_close(found[layer, :, head], added.norm(dim=-1))
        total += added.sum(2)
    if attention.o_proj.bias is not None:
        total += attention.o_proj.bias
    torch.testing.assert_close(total, states[name], atol=1e-5, rtol=1e-4)  # the summands are all of it


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_a_silent_head_is_one_whose_columns_of_w_o_are_zero(kind):
    """The wrong head silenced, or all of a layer's, or the bias too."""
    model, ids = MODELS[kind](), random_ids(2, 5)
    backbone, d = getattr(model, "backbone", model), model.config.d_head

    def answer():
        out = model(ids)
        return out.last_hidden_state if out.logits is None else out.logits

    with without_heads(model, [(0, 1), (1, 3), (1, 0)]):
        found = answer()
    usual = answer()
    for layer, head in ((0, 1), (1, 3), (1, 0)):
        backbone.blocks[layer].attention.o_proj.weight[:, head * d : (head + 1) * d] = 0
    torch.testing.assert_close(found, answer())
    assert not torch.allclose(found, usual, atol=1e-3)


@torch.no_grad()
def test_a_head_at_its_mean_says_nothing_of_the_input():
    """A mean over features, or one that is not the same at every place; other heads changed with it."""
    model, ids = small_lm(), random_ids(3, 5)
    name = "backbone.blocks.1.attention.o_proj.input"
    with capture(model, name) as usual:
        model(ids)
    with without_heads(model, [(1, 2)], how="mean"), capture(model, name) as changed:
        model(ids)
    by_head, usual_by_head = (s[name].unflatten(-1, (4, 6)) for s in (changed, usual))
    mean = usual_by_head[:, :, 2].mean((0, 1))
    torch.testing.assert_close(by_head[:, :, 2], mean.expand(3, 5, 6))
    others = [0, 1, 3]
    assert torch.equal(by_head[:, :, others], usual_by_head[:, :, others])


@torch.no_grad()
def test_ablation_effect_is_the_rise_of_the_loss():
    """The sign; the effect of one head added to the next one's; a head without effect reported with one."""
    model, ids = small_lm(), random_ids(2, 9)
    d = model.config.d_head
    model.backbone.blocks[0].attention.o_proj.weight[:, 2 * d : 3 * d] = 0  # this head is already silent

    def loss(model):
        return F.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    effect = ablation_effect(model, loss)
    assert effect.shape == (2, 4)
    assert effect[0, 2] == 0
    with without_heads(model, [(1, 3)]):
        rise = loss(model)
    assert effect[1, 3] == pytest.approx((rise - loss(model)).item(), abs=1e-6)
    assert effect.abs().max() > 1e-3


def test_models_without_one_stack_and_heads_that_are_not():
    """A head counted from the end; the wrong one of two stacks; a classifier's stack not found."""
    model = small_lm()
    for heads in ([(2, 0)], [(0, 4)], [(-1, 0)]):
        with pytest.raises(ValueError, match="2 layers, 4 heads"), without_heads(model, heads):
            pass
    with pytest.raises(ValueError, match="how='median'"), without_heads(model, [(0, 0)], how="median"):
        pass
    config = dict(vocab_size=31, d_model=24, n_layers=2, n_heads=4)
    both = EncoderDecoderLM(TransformerConfig.t5(**config))
    with pytest.raises(TypeError, match=r"two stacks: give model\.encoder"):
        contributions(both, random_ids(1, 3))
    with pytest.raises(TypeError, match="a Linear has no stack"):
        contributions(torch.nn.Linear(2, 2), random_ids(1, 3))
    with pytest.raises(ValueError, match="norm_position='output' normalises what all heads add together"):
        contributions(small_lm(norm_position="output"), random_ids(1, 3))
    words = shake(MaskedLM(TransformerConfig.bert(**config)))
    rewards = SequenceClassifier(model.backbone, n_labels=1, pooling="last")  # a causal backbone is a stack as well
    for whole in (words, rewards):
        assert torch.equal(contributions(whole, random_ids(1, 3)), contributions(whole.encoder, random_ids(1, 3)))
