"""Hooks see and change what they say, where they say it, and leave nothing behind."""

import pytest
import torch

from llmbook.interpret import capture, find, patch, patching_grid
from llmbook.model import Encoder, EncoderDecoderLM, KVCache, TransformerConfig
from tests.model.helpers import random_ids, shake, small_lm

BLOCKS = ["backbone.blocks.0", "backbone.blocks.1"]


def n_hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_names_and_patterns():
    """A star that reaches into the parts of a part; an order that is not the model's; a name found twice."""
    model = small_lm()
    assert find(model, "backbone.blocks.*") == BLOCKS
    assert find(model, ["backbone.blocks.*", "backbone.embeddings", "backbone.blocks.1"]) == [
        "backbone.embeddings",
        *BLOCKS,
    ]
    assert find(model, "backbone.blocks.*.attention.?_proj")[:4] == [
        f"backbone.blocks.0.attention.{p}_proj" for p in "qkvo"
    ]
    assert find(model, "lm_head.input") == ["lm_head.input"]
    assert find(model, "blocks.*") == BLOCKS  # as everywhere in the library, the end of a name will do


@pytest.mark.parametrize(
    "name", ["backbone.block.0", "backbone.blocks.2", "backbone.blocks.0.atention.input", "backbone.*.attention"]
)
def test_a_name_that_matches_nothing_is_an_error(name):
    """A misspelt name, and an experiment that silently looked at nothing; hooks of the names before it left on."""
    model = small_lm()
    for use in (
        lambda: capture(model, ["lm_head", name]),
        lambda: patch(model, {"lm_head": torch.relu, name: torch.relu}),
    ):
        with pytest.raises(ValueError, match=r"no part of DecoderLM is called .* there are .*backbone"), use():
            pass
    assert n_hooks(model) == 0


@pytest.mark.parametrize("need_weights", [False, True])
def test_states_are_those_of_the_model(need_weights):
    """What goes in taken for what comes out, weights for the mixture, or a value of another layer."""
    model = small_lm(norm_position="pre")
    ids = random_ids(2, 7)
    names = [
        "backbone.embeddings",
        "backbone.blocks.*",
        "backbone.blocks.*.attention",
        "backbone.final_norm.input",
        "lm_head",
    ]
    with torch.no_grad(), capture(model, names) as states:
        out = model(ids, need_hidden=True, need_weights=need_weights)
    for name, hidden in zip(["backbone.embeddings", *BLOCKS], out.hidden_states, strict=True):
        assert torch.equal(states[name], hidden), name
    assert torch.equal(states["backbone.final_norm.input"], out.hidden_states[-1])
    assert torch.equal(states["lm_head"], out.logits)
    block = model.backbone.blocks[1]
    x = out.hidden_states[1] + states["backbone.blocks.1.attention"]
    after = x + block.feed_forward(block.feed_forward_norm(x))
    torch.testing.assert_close(after, out.hidden_states[2])
    with pytest.raises(KeyError, match=r"backbone.blocks.1.feed_forward was not captured"):
        states["backbone.blocks.1.feed_forward"]


def test_values_are_detached_or_carry_gradients():
    """A graph kept alive by what was only looked at; a gradient at a hidden state that is never filled in."""
    model, ids = small_lm(), random_ids(2, 7)
    with capture(model, "backbone.blocks.0") as states:
        model(ids)
    assert not states["backbone.blocks.0"].requires_grad
    with capture(model, "backbone.blocks.*", keep_graph=True) as states:
        out = model(ids)
    out.logits[:, 3].sum().backward()
    gradient = states["backbone.blocks.0"].grad
    assert gradient[:, :4].abs().sum() > 0
    assert gradient[:, 4:].abs().sum() == 0  # the future does not reach the past


def test_nothing_is_left_behind():
    """Hooks that stay after the block, or after an error inside it, and change every later run."""
    model, ids = small_lm(), random_ids(2, 7)
    usual = model(ids).logits
    with capture(model, "backbone.blocks.*"), patch(model, {"backbone.blocks.0": torch.zeros_like}):
        assert n_hooks(model) == 3
        assert not torch.equal(model(ids).logits, usual)
    assert n_hooks(model) == 0
    with pytest.raises(RuntimeError, match="stop"), patch(model, {"backbone.blocks.*.input": torch.relu}):
        raise RuntimeError("stop")
    with pytest.raises(ZeroDivisionError), patch(model, {"lm_head": lambda x: 1 / 0}):
        model(ids)
    assert n_hooks(model) == 0
    assert torch.equal(model(ids).logits, usual)


def test_one_inside_another_acts_in_the_order_entered():
    """A capture that misses the patch around it, or sees one that comes after it."""
    model, ids = small_lm(), random_ids(2, 7)
    name = "backbone.blocks.0"
    with capture(model, name) as before, patch(model, {name: lambda x: x + 1}), capture(model, name) as after:
        model(ids)
    torch.testing.assert_close(after[name], before[name] + 1)
    with patch(model, {name: lambda x: x + 1}), patch(model, {name: lambda x: x * 2}), capture(model, name) as both:
        model(ids)
    torch.testing.assert_close(both[name], (before[name] + 1) * 2)


@pytest.mark.parametrize(
    "where", ["backbone.blocks.0", "backbone.blocks.1", "backbone.blocks.1.input", "lm_head.input"]
)
def test_a_clean_run_put_into_a_corrupted_one_is_clean_again(where):
    """A patch that does not reach what comes after it, or reaches it twice."""
    model = small_lm()
    clean, corrupted = random_ids(2, 7), random_ids(2, 7).flip(1)
    with torch.no_grad():
        with capture(model, where) as states:
            expected = model(clean).logits
        with patch(model, {where: states[where]}):
            assert torch.equal(model(corrupted).logits, expected)
        assert not torch.equal(model(corrupted).logits, expected)


def test_a_patch_keeps_the_weights_beside_it():
    """Attention weights lost where the mixture beside them is replaced."""
    model, ids = small_lm(), random_ids(2, 7)
    with torch.no_grad(), patch(model, {"backbone.blocks.1.attention": torch.zeros_like}):
        out = model(ids, need_weights=True)
    torch.testing.assert_close(out.attentions[1].sum(-1), torch.ones(2, 4, 7))


@torch.no_grad()
def test_with_a_cache():
    """A patch that acts on the first call alone; states of the whole where only the new tokens ran."""
    model, ids = small_lm(positions="rope"), random_ids(2, 7)
    change = {"backbone.blocks.0.feed_forward": lambda x: -x}
    with patch(model, change), capture(model, "backbone.blocks.1") as states:
        whole = model(ids).logits
        expected = states["backbone.blocks.1"]
        cache = KVCache(model.config, batch_size=2)
        for part in ids.split([4, 1, 2], dim=1):
            logits = model(part, cache=cache).logits
            seen = states["backbone.blocks.1"]
            assert seen.shape[1] == part.shape[1]
            torch.testing.assert_close(seen, expected[:, cache.length - part.shape[1] : cache.length])
    torch.testing.assert_close(logits, whole[:, 5:])


def test_what_cannot_be_patched_is_named():
    """A value of another shape broadcast over a batch; a part that gives no tensor; a change meant twice."""
    model, ids = small_lm(), random_ids(2, 7)
    for changes, error, message in (
        ({"backbone.blocks.0": torch.zeros(1, 7, 24)}, ValueError, r"gives \(2, 7, 24\); \(1, 7, 24\) cannot"),
        ({"backbone.blocks.0": lambda x: None}, TypeError, "backbone.blocks.0 returned NoneType"),
        ({"backbone": torch.zeros(1)}, TypeError, "backbone holds Output, not a tensor"),
        (
            {"backbone.blocks.0": torch.relu, "backbone.blocks.*": torch.relu},
            ValueError,
            "backbone.blocks.0 is named twice",
        ),
    ):
        with pytest.raises(error, match=message), patch(model, changes):
            model(ids)
    assert n_hooks(model) == 0


def test_other_models():
    """Names that only a decoder has; cross-attention, whose first value is its mixture too."""
    encoder = shake(Encoder(TransformerConfig.bert(vocab_size=31, max_seq_len=16, d_model=24, n_layers=2, n_heads=4)))
    both = shake(EncoderDecoderLM(TransformerConfig.t5(vocab_size=31, d_model=24, n_layers=2, n_heads=4)))
    ids = random_ids(2, 7)
    with capture(encoder, "blocks.1") as states:
        out = encoder(ids)
    assert torch.equal(states["blocks.1"], out.last_hidden_state)
    with capture(both, "decoder.blocks.*.cross_attention") as states:
        both(ids, ids[:, :3])
    assert states["decoder.blocks.1.cross_attention"].shape == (2, 3, 24)


def test_patching_grid_finds_the_position_that_differs():
    """Rows and columns exchanged, positions off by one, or the corrupted value put into the clean run."""
    model = small_lm(positions="rope")
    clean = random_ids(2, 6)
    corrupted = clean.clone()
    corrupted[:, 2] = (corrupted[:, 2] + 1) % 31
    with torch.no_grad():
        target = model(clean).logits[:, -1]

    def distance(out) -> float:
        return (out.logits[:, -1] - target).norm().item()

    usual = distance(model(corrupted))
    grid = patching_grid(
        model,
        {"input_ids": clean},
        {"input_ids": corrupted},
        distance,
        names=["backbone.blocks.*", "backbone.embeddings"],
    )
    assert grid.shape == (3, 6)
    torch.testing.assert_close(grid[0], torch.tensor([usual, usual, 0.0, usual, usual, usual]), atol=1e-5, rtol=1e-5)
    assert grid[2, -1] < 1e-6  # after the last block only the last position is read
    torch.testing.assert_close(grid[2, :-1], torch.full((5,), usual))
    assert 1e-3 < grid[1, 2] < usual * 2
    assert n_hooks(model) == 0


def test_training_mode_is_given_back():
    """A grid that leaves the model without dropout."""
    model = small_lm().train()
    patching_grid(
        model,
        {"input_ids": random_ids(1, 3)},
        {"input_ids": random_ids(1, 3)},
        lambda out: 0,
        names="backbone.embeddings",
    )
    assert model.training
