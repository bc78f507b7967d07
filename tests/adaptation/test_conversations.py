"""Which tokens of a conversation are learned: the assistant's, to the token."""

import pytest
import torch

from llmbook.adaptation import (
    Example,
    ExampleBatches,
    encode_chat,
    encode_preference,
    pad_examples,
    pad_preferences,
)
from llmbook.text import ByteTokenizer, HFTokenizer
from llmbook.training import causal_lm_loss
from tests.adaptation.helpers import lm

TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Two plus two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "Plus one?"},
    {"role": "assistant", "content": "Five, I think."},
]
MARKS = ("<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="module")
def bpe() -> HFTokenizer:
    text = " ".join(turn["content"] for turn in TURNS)
    return HFTokenizer.train(text * 3, vocab_size=300, special_tokens=MARKS)


def learned(example: Example, tokenizer) -> str:
    assert len(example.labels) == len(example.input_ids)
    pairs = zip(example.input_ids, example.labels, strict=True)
    assert all(label in (token, -100) for token, label in pairs)
    return tokenizer.decode([label for label in example.labels if label != -100])


@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_every_answer_and_its_end_are_learned_and_nothing_else(kind, bpe):
    """Catches labels shifted by one, the invitation learned, the end mark not, or only the last turn found."""
    tokenizer = bpe if kind == "bpe" else ByteTokenizer()
    example = encode_chat(TURNS, tokenizer)
    assert learned(example, tokenizer) == "Four.<|im_end|>\nFive, I think.<|im_end|>\n"
    last = encode_chat(TURNS, tokenizer, learn="last")
    assert learned(last, tokenizer) == "Five, I think.<|im_end|>\n"
    assert last.input_ids == example.input_ids
    text = tokenizer.decode(example.input_ids)
    assert text.startswith("<|im_start|>system\nBe short.<|im_end|>\n")
    assert text.endswith("<|im_start|>assistant\nFive, I think.<|im_end|>\n")


def test_the_tokenizers_own_template_comes_first(bpe):
    """Catches a model trained on marks it has never seen, while its own are at hand."""
    tokenizer = HFTokenizer(bpe.backend)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] }}: {{ m.content }} ~ {% endfor %}"
    example = encode_chat([{"role": "assistant", "content": "Four."}], tokenizer)
    assert tokenizer.decode(example.input_ids) == "a: Four. ~ "
    given = encode_chat(
        TURNS[:3], tokenizer, template="{% for m in messages %}{{ m.content }}{{ end }}{% endfor %}", end="#"
    )
    assert tokenizer.decode(given.input_ids) == "Be short.#Two plus two?#Four.#"


def test_a_beginning_that_reads_differently_is_refused(bpe):
    """Catches labels that are off because a token reaches over the border of a turn, or earlier turns change."""
    word = "{% for m in messages %}{{ m.content }}{% endfor %}"  # "…plus" and "two" have no border between them
    joined = [{"role": "user", "content": "Two pl"}, {"role": "assistant", "content": "us two?"}]
    assert bpe.encode("Two plus") != bpe.encode("Two pl") + bpe.encode("us")
    with pytest.raises(ValueError, match=r"turn 1: .*read alone, has other tokens from number"):
        encode_chat(joined, bpe, template=word)
    forgetful = "{% for m in messages %}{% if loop.last or m.role == 'user' %}{{ m.content }}|{% endif %}{% endfor %}"
    with pytest.raises(ValueError, match=r"turn 2: .*changes earlier turns"):
        encode_chat(TURNS, bpe, template=forgetful)


def test_too_long_is_cut_at_the_end(bpe):
    """Catches a cut that takes the beginning, leaves nothing to learn without a word, or splits ids from labels."""
    whole = encode_chat(TURNS, bpe)
    first = next(i for i, label in enumerate(whole.labels) if label != -100)
    cut = encode_chat(TURNS, bpe, max_len=first + 1)
    assert (cut.input_ids, cut.labels) == (whole.input_ids[: first + 1], whole.labels[: first + 1])
    with pytest.raises(ValueError, match=f"has {len(whole.input_ids)} tokens, and none .* max_len={first}"):
        encode_chat(TURNS, bpe, max_len=first)
    for options, message in (({"learn": "first"}, "learn='first' is not one of"), ({"max_len": -1}, "max_len=-1")):
        with pytest.raises(ValueError, match=message):
            encode_chat(TURNS, bpe, **options)
    with pytest.raises(ValueError, match="no assistant turn"):
        encode_chat(TURNS[:2], bpe)


def test_a_padded_batch_has_the_loss_of_its_conversations(bpe):
    """Catches padding that is learned or read, and labels that the objective shifts another time."""
    model = lm(vocab_size=bpe.vocab_size, max_seq_len=128)
    examples = [encode_chat(TURNS, bpe), encode_chat(TURNS[:3], bpe)]
    batch = pad_examples(examples, pad_token_id=7)
    assert {name: tensor.shape for name, tensor in batch.items()} == dict.fromkeys(
        ("input_ids", "labels", "attention_mask"), (2, len(examples[0].input_ids))
    )
    together = causal_lm_loss(model, batch)
    expected, n_targets = 0.0, 0
    for example in examples:
        log_p = model(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
        places = [i for i, label in enumerate(example.labels) if label != -100]
        expected -= sum(log_p[i - 1, example.input_ids[i]] for i in places)
        n_targets += len(places)
    torch.testing.assert_close(together.total, expected, rtol=1e-5, atol=1e-4)
    assert int(together.n_targets) == n_targets


def test_two_answers_to_one_question(bpe):
    """Catches answers exchanged, and earlier answers, common to both, among what is compared."""
    pair = encode_preference(TURNS[:4], "Five.", "No idea, sorry.", bpe)
    assert learned(pair.chosen, bpe) == "Five.<|im_end|>\n"
    assert learned(pair.rejected, bpe) == "No idea, sorry.<|im_end|>\n"
    batch = pad_preferences([pair, encode_preference(TURNS[:2], "Four.", "No.", bpe)], pad_token_id=7)
    for side in ("chosen", "rejected"):
        example = getattr(pair, side)
        n = len(example.input_ids)
        assert batch[f"{side}_ids"][0].tolist() == example.input_ids
        assert batch[f"{side}_labels"][0].tolist() == example.labels
        assert batch[f"{side}_mask"].sum(1).tolist()[0] == n > batch[f"{side}_mask"][1].sum()
        assert set(batch[f"{side}_labels"][batch[f"{side}_mask"] == 0].tolist()) == {-100}
        assert set(batch[f"{side}_ids"][batch[f"{side}_mask"] == 0].tolist()) == {7}


def test_batches_go_round_and_can_be_resumed():
    """Catches an example left out of an epoch, epochs in the same order, a state that starts over."""
    examples = [Example(input_ids=[i, i], labels=[-100, i]) for i in range(7)]

    def numbers(batches, n):
        return [i for _ in range(n) for i in next(batches)["input_ids"][:, 0].tolist()]

    drawn = numbers(ExampleBatches(examples, batch_size=3), 14)  # 42 examples, 6 epochs
    epochs = [drawn[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert numbers(ExampleBatches(examples, batch_size=3, seed=1), 14) != drawn
    first = ExampleBatches(examples, batch_size=3)
    numbers(first, 5)
    second = ExampleBatches(examples, batch_size=3)
    second.load_state_dict(first.state_dict())
    assert numbers(iter(second), 9) == drawn[15:]
    with pytest.raises(ValueError, match="batch_size=3, but these batches have batch_size=2"):
        ExampleBatches(examples, batch_size=2).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="no examples"):
        ExampleBatches([], batch_size=2)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ExampleBatches(examples, batch_size=0)
