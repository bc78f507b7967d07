"""Objectives that guess what stands at a place: masks, orders, classes, partners, mixtures."""

import math

import pytest
import torch
import transformers

from llmbook.interop import config_from_huggingface, from_huggingface
from llmbook.model import Encoder, MaskedLM, SequenceClassifier, TransformerConfig, TwoStreamLM
from llmbook.text import (
    IGNORE,
    LMBatches,
    MappedBatches,
    MaskTokens,
    MixedBatches,
    PairBatches,
    PermuteOrder,
    choose_prefix,
    draw_next_sentence,
    draw_sentence_order,
)
from llmbook.training import (
    ByTask,
    Callback,
    ContrastiveLoss,
    Loss,
    TrainConfig,
    Trainer,
    causal_lm_loss,
    classification_loss,
    info_nce,
    masked_lm_loss,
    permutation_lm_loss,
    prefix_lm_loss,
)
from tests.model.helpers import shake
from tests.training.helpers import CPU, same_parameters, tiny_model

SIZES = dict(vocab_size=31, max_seq_len=16, d_model=16, n_layers=1, n_heads=2)


def masked_batch():
    ids = torch.randint(31, (3, 9))
    labels = ids.masked_fill(torch.rand(3, 9) < 0.6, IGNORE)
    real = torch.ones_like(ids)
    real[1, 6:], labels[1, 6:] = 0, IGNORE
    segments = (torch.arange(9) > 4).long().expand(3, 9)
    return {"input_ids": ids, "labels": labels, "attention_mask": real, "segment_ids": segments}


def test_the_masked_loss_is_transformers():
    """Catches a shift by one, unchosen tokens scored, and a mean in place of the sum: BERT's own loss, same logits."""
    config = transformers.BertConfig(
        vocab_size=31, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, initializer_range=0.2, pad_token_id=None,
    )  # fmt: skip
    bert = transformers.BertForMaskedLM(config).eval()
    model = MaskedLM(config_from_huggingface(config.to_dict()))
    model.load_state_dict(from_huggingface(bert.state_dict(), "bert-masked-lm", n_layers=1))
    batch = masked_batch()
    del batch["segment_ids"]
    loss, expected = masked_lm_loss(model, batch), bert(**batch).loss
    assert int(loss.n_targets) == int((batch["labels"] != IGNORE).sum())
    torch.testing.assert_close(loss.total / loss.n_targets, expected, atol=1e-5, rtol=1e-5)
    (loss.total / loss.n_targets).backward()
    expected.backward()
    gradients = {name: p.grad for name, p in bert.named_parameters()}
    reference = from_huggingface(gradients, "bert-masked-lm", n_layers=1)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, reference[name], atol=1e-5, rtol=1e-4, msg=name)


def test_only_the_hidden_places_reach_the_vocabulary():
    """Catches logits computed at all places, most of them for nothing; and a batch without any hidden token, whose
    parameters would have no gradient where other processes wait for one."""
    model, batch, rows = shake(MaskedLM(TransformerConfig.bert(**SIZES))), masked_batch(), []
    model.lm_head.register_forward_hook(lambda head, inputs, logits: rows.append(logits.shape[:-1].numel()))
    loss = masked_lm_loss(model, batch)
    assert rows == [int(loss.n_targets)]
    nothing = masked_lm_loss(model, {**batch, "labels": torch.full_like(batch["labels"], IGNORE)})
    assert (nothing.total, nothing.n_targets) == (0, 0)
    nothing.total.backward()
    assert all(p.grad.eq(0).all() for p in model.parameters())


def test_the_masked_loss_hands_over_padding_and_segments():
    """Catches a batch whose padding is read as text, or whose segments are lost, in silence."""
    model = shake(MaskedLM(TransformerConfig.bert(**SIZES)))
    batch = masked_batch()
    full = masked_lm_loss(model, batch).total
    out = model(batch["input_ids"], attention_mask=batch["attention_mask"], segment_ids=batch["segment_ids"])
    chosen = batch["labels"] != IGNORE
    log_p = out.logits[chosen].log_softmax(-1)
    torch.testing.assert_close(full, -log_p[range(len(log_p)), batch["labels"][chosen]].sum())
    with pytest.raises(ValueError, match=r"labels has shape \(3, 8\) but input_ids \(3, 9\)"):
        masked_lm_loss(model, {**batch, "labels": batch["labels"][:, 1:]})


@pytest.mark.parametrize(
    ("objective", "batch", "says"),
    [
        (masked_lm_loss, ["input_ids"], "the batch has input_ids and no labels, which MaskTokens adds"),
        (permutation_lm_loss, ["input_ids", "labels"], "no order, which PermuteOrder adds"),
        (classification_loss, ["input_ids"], "no labels, which PairBatches adds"),
        (prefix_lm_loss, ["input_ids"], "no prefix_len, which choose_prefix adds"),
    ],
)
def test_a_batch_that_was_not_changed_is_refused(objective, batch, says):
    """Catches a bare KeyError where the change that was forgotten has a name."""
    with pytest.raises(ValueError, match=says):
        objective(tiny_model(), {name: torch.zeros(2, 5, dtype=torch.long) for name in batch})


def test_the_permutation_loss_predicts_the_token_at_its_place():
    """Catches a shift by one, or targets taken from the beginning of the order."""
    model = shake(TwoStreamLM(TransformerConfig(**SIZES)))
    ids, order = torch.randint(31, (2, 5)), torch.stack([torch.randperm(5), torch.randperm(5)])
    labels = ids.clone()
    labels[0, order[0, :3]] = IGNORE
    loss = permutation_lm_loss(model, {"input_ids": ids, "order": order, "labels": labels})
    log_p = model(ids, order=order).logits.log_softmax(-1)
    places = [(0, int(order[0, 3])), (0, int(order[0, 4])), *((1, t) for t in range(5))]
    torch.testing.assert_close(loss.total, -sum(log_p[b, t, ids[b, t]] for b, t in places))
    assert int(loss.n_targets) == 7


def test_orders_are_drawn_fairly_and_their_ends_are_targets():
    """Catches an order that is drawn once for all rows, or targets among the tokens read first."""
    ids = torch.arange(40, 52).expand(300, 12)
    batch = next(MappedBatches(iter_of({"input_ids": ids}), PermuteOrder(predict=0.25)))
    order, labels = batch["order"], batch["labels"]
    assert torch.equal(order.sort(1).values, torch.arange(12).expand(300, 12))
    assert torch.equal(labels.gather(1, order[:, 9:]), ids.gather(1, order[:, 9:]))
    assert (labels.gather(1, order[:, :9]) == IGNORE).all()
    first = torch.bincount(order[:, 0], minlength=12)
    assert (first - 25).abs().max() < 5 * math.sqrt(25)  # each place comes first in 1 of 12 rows
    real = torch.ones_like(ids)
    real[:, :6] = 0
    batch = next(MappedBatches(iter_of({"input_ids": ids, "attention_mask": real}), PermuteOrder(predict=1)))
    assert ((batch["labels"] == IGNORE) == (real == 0)).all()
    with pytest.raises(ValueError, match="predict=0"):
        PermuteOrder(predict=0)


def iter_of(*batches):
    return iter(batches)


def test_classes_are_counted_by_row():
    """Catches a mean over rows, and a row without a label that pulls at the loss."""
    encoder = Encoder(TransformerConfig.bert(**SIZES))
    model = shake(SequenceClassifier(encoder, n_labels=2))
    documents = [[[1, 2, 3], [4, 5], [6]], [[7], [8, 9]]]
    pairs = PairBatches(documents, draw_sentence_order, batch_size=6, max_len=12, cls_id=28, sep_id=29, pad_id=30)
    batch = pairs.batch(0)
    batch["labels"][2] = IGNORE
    loss = classification_loss(model, batch)
    inputs = {name: batch[name] for name in ("attention_mask", "segment_ids")}
    log_p = model(batch["input_ids"], **inputs).logits.log_softmax(-1)
    rows = [0, 1, 3, 4, 5]
    torch.testing.assert_close(loss.total, -sum(log_p[row, batch["labels"][row]] for row in rows))
    assert int(loss.n_targets) == 5


def formula(a, b, temperature) -> float:
    """The two sums of the module's formula, one term after the other."""
    a, b = a.double(), b.double()
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(a)):
        here = math.exp(float(a[i] @ b[i]) / temperature)
        total -= math.log(here / sum(math.exp(float(a[i] @ b[j]) / temperature) for j in range(len(b)))) / 2
        total -= math.log(here / sum(math.exp(float(a[j] @ b[i]) / temperature) for j in range(len(a)))) / 2
    return total


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_info_nce_is_its_formula(temperature):
    """Catches vectors of any length, a temperature that multiplies, one direction only, and a mean over pairs."""
    a, b = torch.randn(5, 8), torch.randn(5, 8)
    loss = info_nce(a, b, temperature=temperature)
    assert float(loss.total) == pytest.approx(formula(a, b, temperature), rel=1e-5)
    assert int(loss.n_targets) == 5
    swapped = info_nce(b, a, temperature=temperature)
    torch.testing.assert_close(loss.total, swapped.total)
    torch.testing.assert_close(info_nce(3 * a, b, temperature=temperature).total, loss.total)


def test_info_nce_keeps_its_digits_under_autocast():
    """Catches similarities multiplied in bfloat16, whose rounding a small temperature makes twenty times larger."""
    a, b = torch.randn(6, 32), torch.randn(6, 32)
    exact = info_nce(a, b, temperature=0.05).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(info_nce(a, b, temperature=0.05).total, exact)


def test_info_nce_of_perfect_and_of_equal_pairs():
    """Catches partners on the wrong diagonal: orthogonal pairs cost nothing, indistinguishable ones ln B each."""
    axes = torch.eye(4)
    assert float(info_nce(axes, axes, temperature=0.05).total) < 1e-6
    same = torch.ones(4, 3)
    assert float(info_nce(same, same, temperature=0.05).total) == pytest.approx(4 * math.log(4))
    with pytest.raises(ValueError, match="temperature=0"):
        info_nce(axes, axes, temperature=0)


@torch.no_grad()
def test_the_contrastive_objective_reads_both_texts():
    """Catches padding pooled with the text, and one text compared with itself."""
    model = shake(Encoder(TransformerConfig(**SIZES)))
    ids, partners = torch.randint(31, (3, 6)), torch.randint(31, (3, 8))
    mask, partner_mask = torch.ones_like(ids), torch.ones_like(partners)
    mask[0, 4:], partner_mask[2, 5:] = 0, 0
    batch = {"input_ids": ids, "attention_mask": mask, "positive_ids": partners, "positive_mask": partner_mask}
    loss = ContrastiveLoss(temperature=0.5)(model, batch)

    def vectors(texts, masks):
        rows = [model(row[keep.bool()][None]).last_hidden_state.mean(1) for row, keep in zip(texts, masks, strict=True)]
        return torch.cat(rows)

    expected = formula(vectors(ids, mask), vectors(partners, partner_mask), 0.5)
    assert float(loss.total) == pytest.approx(expected, rel=1e-4)


def test_each_task_goes_to_its_objective():
    """Catches a batch scored by another task's objective, and a task nobody knows."""
    calls = []

    def objective(name):
        def loss(model, batch):
            calls.append((name, sorted(batch)))
            return Loss(torch.zeros(()), torch.tensor(1))

        return loss

    mixed = ByTask({"a": objective("a"), "b": objective("b")})
    for task in "aba":
        mixed(None, {"input_ids": torch.zeros(1), "task": task})
    assert calls == [("a", ["input_ids"]), ("b", ["input_ids"]), ("a", ["input_ids"])]
    with pytest.raises(ValueError, match="task 'c' has no objective: there are 'a', 'b'"):
        mixed(None, {"task": "c"})
    with pytest.raises(ValueError, match="task None"):
        mixed(None, {})


def mixture_trainer(folder=None, callbacks=()) -> Trainer:
    """Two objectives, both with something drawn for every batch, through the ordinary trainer."""
    tokens = list(range(11)) * 4
    sources = {
        "prefix": MappedBatches(LMBatches(tokens, batch_size=2, seq_len=8), choose_prefix),
        "causal": MappedBatches(
            LMBatches(tokens, batch_size=2, seq_len=8, seed=1), MaskTokens(vocab_size=11, mask_id=11)
        ),
    }
    return Trainer(
        tiny_model(vocab_size=12),
        MixedBatches(sources, {"prefix": 0.5, "causal": 0.5}),
        TrainConfig(steps=8, lr=1e-2, accumulation_steps=2, log_every=1),
        callbacks=callbacks,
        objective=ByTask({"prefix": prefix_lm_loss, "causal": causal_lm_loss}),
        runtime=CPU,
        folder=folder,
    )


def test_a_mixture_resumes_bit_for_bit(tmp_path):
    """Catches a corruption or a choice of task that a checkpoint forgets."""
    whole = mixture_trainer()
    whole.run()

    class StopAtThree(Callback):
        def on_log(self, trainer, step):
            if step == 3:
                trainer.stop()

    first = mixture_trainer(tmp_path, callbacks=[StopAtThree()])
    first.run()
    assert first.step == 3
    resumed = mixture_trainer(tmp_path)
    resumed.run(resume=True)
    assert resumed.history.train_loss == whole.history.train_loss
    assert same_parameters(resumed.model, whole.model)


class Bert(torch.nn.Module):
    """One encoder and BERT's two heads on it: the hidden words, and whether the second sentence follows."""

    def __init__(self):
        super().__init__()
        self.words = MaskedLM(TransformerConfig.bert(**SIZES))
        self.follows = SequenceClassifier(self.words.encoder, n_labels=2)


def test_two_heads_on_one_encoder_learn_by_turns():
    """Catches a class read as a word's label, an encoder of which the second head has a copy, and a batch that moves
    the other task's head: BERT's two tasks on the same pairs of sentences, each batch for one of them."""
    documents = [[[1, 2, 3], [4, 5], [2, 6, 1], [3, 5]], [[20, 21]]]  # a wrong second sentence is always the last
    special = dict(cls_id=28, sep_id=29, pad_id=30)

    def pairs(seed):
        return PairBatches(documents, draw_next_sentence, batch_size=16, max_len=12, seed=seed, **special)

    def hidden(seed):
        return MappedBatches(pairs(seed), MaskTokens(vocab_size=28, mask_id=27, special_ids=special.values()))

    model = Bert()
    objective = ByTask(
        {
            "words": lambda model, batch: masked_lm_loss(model.words, batch),
            "follows": lambda model, batch: classification_loss(model.follows, batch),
        }
    )
    unseen = {"words": next(hidden(2)), "follows": next(pairs(2))}

    def losses() -> dict[str, torch.Tensor]:
        each = {task: objective(model.eval(), {**batch, "task": task}) for task, batch in unseen.items()}
        return {task: loss.total / loss.n_targets for task, loss in each.items()}

    before = losses()
    shared = list(model.words.encoder.blocks.parameters())
    heads = {"words": model.words.transform.weight, "follows": model.follows.classifier.weight}
    for task, other in (("words", "follows"), ("follows", "words")):
        reached = torch.autograd.grad(before[task], [*shared, heads[task], heads[other]], allow_unused=True)
        assert [gradient is None for gradient in reached] == [False] * (len(shared) + 1) + [True]
    sources = {"words": hidden(0), "follows": pairs(1)}
    mixture = MixedBatches(sources, {"words": 0.5, "follows": 0.5})
    Trainer(model, mixture, TrainConfig(steps=100, lr=1e-2), objective=objective, runtime=CPU).run()
    after = losses()
    assert after["words"] < before["words"] - 1
    assert after["follows"] < 0.3 < before["follows"]
