"""The loss of the next token and its relatives: the right tokens, in the right units, summed and not averaged."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from llmbook.model import EncoderDecoderLM, TransformerConfig, prefix_mask
from llmbook.text import CorruptSpans, LMBatches, MappedBatches, choose_prefix
from llmbook.training import causal_lm_loss, prefix_lm_loss, reversed_lm_loss, seq2seq_loss
from tests.model.helpers import shake
from tests.training.helpers import tiny_model


@pytest.fixture
def model():
    return tiny_model().eval()


def test_equals_cross_entropy_of_the_next_token(model):
    """Catches a shift in the wrong direction or a mean in place of the sum."""
    ids = torch.randint(11, (3, 9))
    loss = causal_lm_loss(model, {"input_ids": ids})
    expected = F.cross_entropy(model(ids[:, :-1]).logits.transpose(1, 2), ids[:, 1:], reduction="sum")
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.n_targets) == 3 * 8


def test_ignored_labels_neither_count_nor_pull(model):
    """Catches −100 counted in the denominator, and labels shifted twice."""
    ids = torch.randint(11, (2, 9))
    labels = ids.clone()
    labels[0, :4] = -100  # targets 1, 2, 3 of row 0 fall away; label 0 is never a target
    labels[1, 6:] = -100
    loss = causal_lm_loss(model, {"input_ids": ids, "labels": labels})
    log_p = model(ids[:, :-1]).logits.log_softmax(-1)
    scored = [(0, t) for t in range(4, 9)] + [(1, t) for t in range(1, 6)]
    expected = -sum(log_p[b, t - 1, ids[b, t]] for b, t in scored)
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.n_targets) == len(scored) == 10


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", ["learned", "rope", "alibi"])
def test_padding_changes_nothing(side, positions):
    """Catches padding that is scored or read; on the left, a first token "predicted" from padding."""
    model = tiny_model(positions=positions).eval()
    short, long = torch.randint(11, (1, 6)), torch.randint(11, (1, 9))
    padded, mask = torch.full((2, 9), 7), torch.zeros(2, 9, dtype=torch.long)
    columns = slice(3, None) if side == "left" else slice(0, 6)
    padded[0, columns], mask[0, columns] = short, 1
    padded[1], mask[1] = long, 1
    together = causal_lm_loss(model, {"input_ids": padded, "attention_mask": mask})
    alone = [causal_lm_loss(model, {"input_ids": ids}) for ids in (short, long)]
    torch.testing.assert_close(together.total, alone[0].total + alone[1].total)
    assert int(together.n_targets) == 5 + 8


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"input_ids": torch.zeros(2, 1, dtype=torch.long)}, r"\(2, 1\).*at least 2 tokens"),
        (
            {"input_ids": torch.zeros(2, 5, dtype=torch.long), "labels": torch.zeros(2, 4, dtype=torch.long)},
            r"labels has shape \(2, 4\) but input_ids \(2, 5\)",
        ),
    ],
)
def test_wrong_shapes_are_named(model, batch, message):
    """Catches labels that were shifted by the caller: the objective would shift them again, silently."""
    with pytest.raises(ValueError, match=message):
        causal_lm_loss(model, batch)


def test_the_causal_loss_is_transformers():
    """Catches a difference from the loss everybody reports: GPT-2's own, on the same logits."""
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=16, n_embd=16, n_layer=1, n_head=2, initializer_range=0.2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    gpt2 = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(11, (3, 9))
    labels = ids.masked_fill(torch.rand(3, 9) < 0.3, -100)
    loss = causal_lm_loss(gpt2, {"input_ids": ids, "labels": labels})
    torch.testing.assert_close(loss.total / loss.n_targets, gpt2(ids, labels=labels).loss, atol=1e-5, rtol=1e-5)


def test_the_reversed_loss_predicts_from_what_follows():
    """Catches labels left in reading order, and a model that is shown the text as it stands."""
    model = shake(tiny_model())
    ids = torch.randint(11, (2, 6))
    labels = ids.clone()
    labels[0, 1] = -100
    loss = reversed_lm_loss(model, {"input_ids": ids, "labels": labels})
    expected = 0
    for row in range(2):
        for place in range(5):
            following = ids[row, place + 1 :].flip(0)[None]  # the nearest one last
            if labels[row, place] != -100:
                expected -= model(following).logits[0, -1].log_softmax(-1)[ids[row, place]]
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-5)
    assert int(loss.n_targets) == 9


def test_the_reversed_loss_of_a_padded_row():
    """Catches padding that stays on its side while the text is turned round."""
    model = shake(tiny_model(positions="rope"))
    short = torch.randint(11, (1, 6))
    padded = torch.cat((torch.full((1, 3), 7), short), dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    together = reversed_lm_loss(model, {"input_ids": padded, "attention_mask": mask})
    alone = reversed_lm_loss(model, {"input_ids": short})
    torch.testing.assert_close(together.total, alone.total)
    assert int(together.n_targets) == 5


@pytest.mark.parametrize("positions", ["learned", "rope", "alibi"])
def test_the_prefix_loss_uses_each_rows_prefix(positions):
    """Catches a prefix off by one, one prefix for all rows, and targets inside the prefix or none right behind it.

    Two layers: in one, a place behind the prefix reads the same with and without the prefix reading itself forwards.
    """
    model = shake(tiny_model(positions=positions, n_layers=2))
    ids, prefix_len = torch.randint(11, (3, 8)), torch.tensor([1, 3, 7])
    loss = prefix_lm_loss(model, {"input_ids": ids, "prefix_len": prefix_len})
    expected = 0
    for row, n in enumerate(prefix_len.tolist()):
        log_p = model(ids[row : row + 1, :-1], mask=prefix_mask(7, prefix_len=n)).logits[0].log_softmax(-1)
        expected -= sum(log_p[t - 1, ids[row, t]] for t in range(n, 8))
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.n_targets) == 7 + 5 + 1


def test_a_prefix_never_contains_what_is_predicted():
    """Catches a leak: a change of any target must leave its own prediction, and all before it, as they were."""
    model = shake(tiny_model(n_layers=2))
    ids = torch.randint(11, (1, 8))
    scores = []
    for last in (3, 4):
        changed = ids.clone()
        changed[0, 5] = last
        labels = torch.full_like(ids, -100)
        labels[0, 3:5] = ids[0, 3:5]
        scores.append(prefix_lm_loss(model, {"input_ids": changed, "labels": labels, "prefix_len": torch.tensor([3])}))
    torch.testing.assert_close(scores[0].total, scores[1].total)
    assert int(scores[0].n_targets) == 2


def test_the_prefix_of_a_padded_row_counts_its_own_tokens():
    """Catches a prefix that is counted from the edge of the batch, padding included."""
    model = shake(tiny_model(n_layers=2, positions="rope"))
    short = torch.randint(11, (1, 6))
    padded = torch.cat((torch.full((1, 3), 7), short), dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    n = torch.tensor([2])
    together = prefix_lm_loss(model, {"input_ids": padded, "attention_mask": mask, "prefix_len": n})
    alone = prefix_lm_loss(model, {"input_ids": short, "prefix_len": n})
    torch.testing.assert_close(together.total, alone.total)
    assert int(together.n_targets) == int(alone.n_targets) == 4


def test_a_prefix_and_a_window_exclude_each_other():
    """Catches a window that is dropped in silence: the model would be trained on what it cannot read afterwards."""
    model = tiny_model(sliding_window=5)
    batch = {"input_ids": torch.randint(11, (2, 8)), "prefix_len": torch.tensor([3, 3])}
    for wrapped in (model, SimpleNamespace(module=model)):  # as DDP hides it
        with pytest.raises(ValueError, match="sliding_window=5 looks back only"):
            prefix_lm_loss(wrapped, batch)
    assert prefix_lm_loss(model, {**batch, "input_ids": batch["input_ids"][:, :6]}).n_targets == 2 * 3


def test_prefixes_are_drawn_over_the_whole_window():
    """Catches a prefix of nothing, and one that leaves nothing to predict."""
    batches = MappedBatches(LMBatches(range(99), batch_size=200, seq_len=5), choose_prefix)
    assert set(next(batches)["prefix_len"].tolist()) == {1, 2, 3, 4, 5}
    ids, mask = torch.zeros(50, 6, dtype=torch.long), torch.zeros(50, 6, dtype=torch.long)
    mask[:, 3:] = 1
    drawn = choose_prefix({"input_ids": ids, "attention_mask": mask}, np.random.default_rng(0))["prefix_len"]
    assert set(drawn.tolist()) == {1, 2}
    with pytest.raises(ValueError, match="row 0 has fewer than 2 tokens"):
        choose_prefix({"input_ids": ids[:, :1]}, np.random.default_rng(0))


def encoder_decoder() -> EncoderDecoderLM:
    return shake(EncoderDecoderLM(TransformerConfig.t5(vocab_size=31, d_model=16, n_layers=1, n_heads=2)))


def test_span_corruption_trains_an_encoder_decoder():
    """Catches a shift by one in the output, and a start token that is scored: each token from those before it."""
    model = encoder_decoder()
    stream = MappedBatches(
        LMBatches(list(range(20)) * 3, batch_size=3, seq_len=15), CorruptSpans(sentinel_ids=range(20, 30), start_id=30)
    )
    batch = next(stream)
    loss = seq2seq_loss(model, batch)
    texts, outputs = batch["input_ids"], batch["decoder_input_ids"]
    expected = 0
    for t in range(1, outputs.shape[1]):
        log_p = model(texts, outputs[:, :t]).logits[:, -1].log_softmax(-1)
        expected -= log_p[range(3), outputs[:, t]].sum()
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-5)
    assert int(loss.n_targets) == 3 * (outputs.shape[1] - 1)


def test_seq2seq_padding_changes_nothing_on_either_side():
    """Catches padding of the input or, on the left, of the output that is read, and padding that is scored."""
    model = encoder_decoder()
    text, output = torch.randint(20, (1, 5)), torch.randint(20, (1, 4))
    alone = seq2seq_loss(model, {"input_ids": text, "decoder_input_ids": output})
    ones = torch.ones(1, 2, dtype=torch.long)
    padded = {
        "input_ids": torch.cat((text, 7 * ones), 1),
        "attention_mask": torch.cat((torch.ones_like(text), 0 * ones), 1),
        "decoder_input_ids": torch.cat((7 * ones[:, :1], output, 7 * ones[:, :1]), 1),
        "decoder_attention_mask": torch.cat((0 * ones[:, :1], torch.ones_like(output), 0 * ones[:, :1]), 1),
    }
    together = seq2seq_loss(model, padded)
    torch.testing.assert_close(together.total, alone.total, atol=1e-5, rtol=1e-5)
    assert int(together.n_targets) == 3
    with pytest.raises(ValueError, match=r"decoder_attention_mask has shape \(1, 4\) but decoder_input_ids \(1, 6\)"):
        seq2seq_loss(model, {**padded, "decoder_attention_mask": torch.ones(1, 4, dtype=torch.long)})
