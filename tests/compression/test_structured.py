"""Heads and channels removed: the smaller model is the large one with those parts masked to zero."""

import jaxtyping
import pytest
import torch

from llmbook.adaptation import add_adapters, freeze
from llmbook.compression import (
    importance_by_gradient,
    importance_by_norm,
    keep_parts,
    most_important,
    quantise_model,
)
from llmbook.model import DecoderLM, Encoder, TransformerConfig
from llmbook.training import causal_lm_loss
from tests.compression.helpers import noisy_counting, tiny_lm

HEADS, CHANNELS = torch.tensor([[0, 2], [1, 2]]), torch.tensor([[1, 5, 6, 30], [0, 2, 3, 31]])


def lm(**overrides) -> DecoderLM:
    """Three groups of two query heads, biases and grouped queries included, different in every layer."""
    config = TransformerConfig.gpt2(
        vocab_size=48, max_seq_len=32, d_model=32, n_layers=2, n_heads=6, n_kv_heads=3, d_head=8, d_ff=40, **overrides
    )
    return shaken(DecoderLM(config))


def shaken(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model.eval()


def gate(module, mask: torch.Tensor):
    """Multiply what goes into ``module`` by ``mask``."""
    return module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * mask,))


def part_mask(keep: torch.Tensor, n_parts: int, width: int) -> torch.Tensor:
    return torch.zeros(n_parts).index_fill(0, keep, 1.0).repeat_interleave(width)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "encoder"])
def test_removing_is_masking_to_zero(kind):
    """Catches query heads that lose their keys, rows taken for columns, an output bias cut, and layers mixed up."""
    model = {
        "gpt2": lm,
        "llama": lambda: lm(positions="rope", feed_forward="swiglu", bias=False, norm="rmsnorm", qk_norm=True),
        "encoder": lambda: shaken(Encoder(lm(positions="sinusoidal", norm_position="post").config)),
    }[kind]()
    smaller = keep_parts(model, heads=HEADS, channels=CHANNELS)
    assert (smaller.config.n_heads, smaller.config.n_kv_heads, smaller.config.d_head) == (4, 2, 8)
    assert smaller.config.d_ff == 4
    assert smaller.num_parameters() < model.num_parameters()
    blocks = model.blocks if kind == "encoder" else model.backbone.blocks
    for block, heads, channels in zip(blocks, HEADS, CHANNELS, strict=True):
        gate(block.attention.o_proj, part_mask(heads, 3, 2 * 8))
        gate(block.feed_forward.down_proj, part_mask(channels, 40, 1))
    ids = torch.randint(48, (2, 9))
    expected, got = model(ids), smaller(ids)
    torch.testing.assert_close(got.last_hidden_state, expected.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_what_is_not_named_stays():
    """Catches channels lost with heads: None keeps all, and keeping all is the same model."""
    model, ids = lm(), torch.randint(48, (1, 5))
    assert torch.equal(keep_parts(model)(ids).logits, model(ids).logits)
    assert keep_parts(model, heads=HEADS).config.d_ff == 40
    assert keep_parts(model, channels=CHANNELS).config.n_heads == 6


def test_importance_by_gradient_is_the_gradient_of_a_gate():
    """Catches rows summed for columns, |Σ| taken as Σ|·|, examples that cancel, and groups miscounted."""
    model, batches = lm(), [{"input_ids": torch.randint(48, (2, 8))} for _ in range(2)]
    found = importance_by_gradient(model, batches)
    assert all(p.grad is None for p in model.parameters())
    gates = {kind: torch.ones(2, n, requires_grad=True) for kind, n in (("heads", 3), ("channels", 40))}
    for i, block in enumerate(model.backbone.blocks):
        gate(block.attention.o_proj, gates["heads"][i].repeat_interleave(2 * 8))
        gate(block.feed_forward.down_proj, gates["channels"][i])
    expected = {kind: 0 for kind in gates}
    for row in torch.cat([batch["input_ids"] for batch in batches]):
        loss = causal_lm_loss(model, {"input_ids": row[None]})
        gradients = torch.autograd.grad(loss.total / loss.n_targets, list(gates.values()), retain_graph=True)
        for kind, gradient in zip(gates, gradients, strict=True):
            expected[kind] = expected[kind] + gradient.abs() / 4
    torch.testing.assert_close(found.heads, expected["heads"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.channels, expected["channels"], atol=1e-5, rtol=1e-4)


def test_importance_by_gradient_does_not_depend_on_how_examples_are_batched():
    """Catches a mean over the batch taken before the absolute value: the larger the batch, the more would cancel."""
    model, ids = lm(), torch.randint(48, (4, 8))
    together = importance_by_gradient(model, [{"input_ids": ids}])
    alone = importance_by_gradient(model, [{"input_ids": row[None]} for row in ids])
    torch.testing.assert_close(together.heads, alone.heads)
    torch.testing.assert_close(together.channels, alone.channels)


def test_importance_by_norm_is_the_norm_of_a_parts_columns():
    """Catches another part's columns: only the one that was enlarged may grow."""
    model = lm()
    before = importance_by_norm(model)
    with torch.no_grad():
        model.backbone.blocks[1].attention.o_proj.weight[:, 16:32] *= 3  # the second group: heads 2 and 3 of 8 columns
        model.backbone.blocks[0].feed_forward.down_proj.weight[:, 7] *= 5
    after = importance_by_norm(model)
    torch.testing.assert_close(after.heads / before.heads, torch.tensor([[1.0, 1, 1], [1, 3, 1]]))
    grown = torch.ones(2, 40).index_put((torch.tensor(0), torch.tensor(7)), torch.tensor(5.0))
    torch.testing.assert_close(after.channels / before.channels, grown)
    columns = model.backbone.blocks[0].attention.o_proj.weight[:, :16]
    torch.testing.assert_close(after.heads[0, 0], columns.norm())


def test_the_most_important_are_kept_in_order():
    """Catches the least important kept, and an order by score that would swap heads."""
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7], [4.0, 1.0, 3.0, 2.0]])
    assert most_important(scores, 2).tolist() == [[1, 3], [0, 2]]


def test_dead_parts_are_found_and_cost_nothing_to_remove():
    """Catches an importance that misses what matters: parts that write nothing score 0 and go without a trace."""
    model, batches = tiny_lm(), noisy_counting(1)
    with torch.no_grad():
        for i, block in enumerate(model.backbone.blocks):
            block.attention.o_proj.weight[:, 32 * i : 32 * i + 32] = 0  # group i of two heads of 16
            block.feed_forward.down_proj.weight[:, i::4] = 0
    for importance in (importance_by_norm(model), importance_by_gradient(model, batches)):
        heads, channels = most_important(importance.heads, 1), most_important(importance.channels, 48)
        assert heads.tolist() == [[1], [0]]
        smaller = keep_parts(model, heads=heads, channels=channels)
        torch.testing.assert_close(
            causal_lm_loss(smaller, batches[0]).total, causal_lm_loss(model, batches[0]).total, rtol=1e-5, atol=1e-3
        )


def test_the_model_is_given_back_as_it_was():
    """Catches dropout in the measurement, or left off after it, also by an error, also where a part was frozen."""
    model, batch = lm(dropout=0.5).train(), {"input_ids": torch.randint(48, (2, 8))}
    model.backbone.blocks[0].eval()
    once, twice = (importance_by_gradient(model, [batch]) for _ in range(2))
    assert torch.equal(once.heads, twice.heads)
    with pytest.raises(KeyError):
        importance_by_gradient(model, [{"other": batch["input_ids"]}])
    assert [model.training, *(block.training for block in model.backbone.blocks)] == [True, False, True]


def changed(how) -> DecoderLM:
    model = lm()
    how(model)
    return model


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keep_parts(lm(positions="alibi"), heads=HEADS), "positions='alibi' gives head 0"),
        (lambda: keep_parts(lm(qk_norm=True, qk_norm_width="all"), heads=HEADS), "qk_norm_width='all' normalises all"),
        (lambda: keep_parts(torch.nn.Linear(2, 2)), "a Linear cannot be narrowed"),
        (lambda: keep_parts(lm(), heads=HEADS[:1]), r"heads has shape \(1, 2\): .* each of 2 layers"),
        (lambda: keep_parts(lm(), heads=HEADS + 1), "heads names 3: a layer has the numbers 0 to 2"),
        (lambda: keep_parts(lm(), channels=torch.tensor([[1, 1], [0, 1]])), r"channels names a part twice in \[1, 1\]"),
        (lambda: keep_parts(lm(), heads=[[0], [1]]), "heads is of type list: give a tensor of whole numbers"),
        (lambda: keep_parts(lm(), heads=HEADS.float()), "heads is of type torch.float32"),
        (lambda: keep_parts(lm(), channels=torch.ones(2, 40, dtype=torch.bool)), "channels is of type torch.bool"),
        (lambda: most_important(torch.ones(3), 1), r"scores have shape \(3,\)"),
        (lambda: most_important(torch.ones(2, 3), 2.5), "keep=2.5 is not a whole number"),
        (lambda: most_important(torch.tensor([[float("nan"), 1.0]]), 1), "some scores are nan"),
        (lambda: most_important(torch.ones(2, 3), 0), "keep=0"),
        (lambda: most_important(torch.ones(2, 3), 4), "keep=4"),
        (lambda: importance_by_gradient(lm(), []), "no batches"),
        (lambda: importance_by_gradient(changed(freeze), []), "frozen, so no gradient"),
        (lambda: importance_by_norm(changed(quantise_model)), "Int8Linear has no plain weight"),
        (lambda: keep_parts(changed(add_adapters), heads=HEADS), "AdaptedLinear has no plain weight"),
    ],
)
def test_what_cannot_be_removed_is_refused(call, message, monkeypatch):
    """Catches negative numbers that index from the end, parts kept twice, a mask read as numbers, and nan that
    counts as the most important of all."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as at a reader's: only tests check shapes
    with pytest.raises(ValueError, match=message):
        call()
