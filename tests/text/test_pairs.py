"""Pairs of sentences: the right neighbour, the right label, and a border that survives cutting."""

import math

import numpy as np
import pytest
import torch

from llmbook.text import PairBatches, draw_next_sentence, draw_sentence_order, join_pair

# Sentence s of document d is [100 d + 10 s, …]: a token says where it came from.
DOCUMENTS = [[[100 * d + 10 * s + t for t in range(1 + (d + s) % 4)] for s in range(2 + d)] for d in range(4)]
IDS = dict(cls_id=901, sep_id=902, pad_id=900)


def place(sentence) -> tuple[int, int]:
    return sentence[0] // 100, sentence[0] % 100 // 10


def drawn(draw, n=3000):
    generator = np.random.default_rng(0)
    return [draw(DOCUMENTS, generator) for _ in range(n)]


def half(n, of) -> bool:
    return abs(n - of / 2) < 5 * math.sqrt(of) / 2


def test_next_sentences_follow_or_come_from_elsewhere():
    """Catches labels the other way round, a "wrong" sentence from the same document, and one document favoured."""
    pairs = drawn(draw_next_sentence)
    for first, second, label in pairs:
        (d, s), (e, t) = place(first), place(second)
        assert (e, t) == (d, s + 1) if label == 0 else e != d
    assert half(sum(label for *_, label in pairs), len(pairs))
    others = [place(second)[0] for first, second, label in pairs if label == 1 and place(first)[0] == 3]
    assert set(others) == {0, 1, 2}
    firsts = [place(first) for first, *_ in pairs]
    expected = len(pairs) / 10  # ten sentences have a successor
    assert {(d, s) for d in range(4) for s in range(1 + d)} == set(firsts)
    assert all(abs(firsts.count(p) - expected) < 5 * math.sqrt(expected) for p in set(firsts))


def test_sentence_order_swaps_neighbours():
    """Catches a "swapped" pair that is not, and labels the other way round."""
    pairs = drawn(draw_sentence_order)
    for first, second, label in pairs:
        (d, s), (e, t) = place(first), place(second)
        assert d == e
        assert t - s == (1 if label == 0 else -1)
    assert half(sum(label for *_, label in pairs), len(pairs))


def test_a_pair_is_one_sequence_with_two_segments():
    """Catches a separator in the wrong segment, and a missing last one."""
    ids, segments = join_pair([1, 2, 3], [4, 5], cls_id=901, sep_id=902, max_len=8)
    assert ids == [901, 1, 2, 3, 902, 4, 5, 902]
    assert segments == [0, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (6, 6, ([4, 5, 6], [11, 12, 13])),  # equal: both give
        (9, 2, ([6, 7, 8, 9], [11, 12])),  # only the longer one gives
        (2, 9, ([1, 2], [11, 12, 13, 14])),
        (5, 1, ([1, 2, 3, 4, 5], [11])),  # fits
    ],
)
def test_the_longer_sentence_gives_way_and_the_border_stays(first, second, kept):
    """Catches a cut that takes away the very place where the two sentences meet."""
    a, b = list(range(1, first + 1)), list(range(11, second + 11))
    ids, segments = join_pair(a, b, cls_id=901, sep_id=902, max_len=9)
    assert ids == [901, *kept[0], 902, *kept[1], 902]
    assert len(ids) == len(segments) <= 9


def batches(seed=0, **overrides):
    values = dict(batch_size=5, max_len=8, seed=seed, **IDS)
    return PairBatches(DOCUMENTS, draw_sentence_order, **{**values, **overrides})


def test_batches_are_padded_on_the_right_and_say_so():
    """Catches padding that counts as text, and a segment for it."""
    batch = batches().batch(0)
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    assert ids.shape == mask.shape == batch["segment_ids"].shape
    assert torch.equal(ids == 900, ~mask)
    assert mask.all(0).sum() < mask.shape[1] == mask.sum(1).max() <= 8
    assert (mask[:, 1:] <= mask[:, :-1]).all()
    assert (batch["segment_ids"][~mask] == 0).all()
    assert ((ids == 902).sum(1) == 2).all()
    assert batch["labels"].shape == (5,)


def test_resume_is_exact_and_only_of_the_same_run():
    """Catches pairs that depend on what was drawn before, or a state of other data."""
    whole = [next(stream) for stream in [batches()] for _ in range(4)]
    interrupted, resumed = batches(), batches()
    next(interrupted), next(interrupted)
    resumed.load_state_dict(interrupted.state_dict())
    for batch in whole[2:]:
        again = next(resumed)
        assert all(torch.equal(batch[name], again[name]) for name in batch)
    with pytest.raises(ValueError, match="saved with seed=0, but these batches have seed=1"):
        batches(seed=1).load_state_dict(interrupted.state_dict())


def test_data_without_pairs_is_refused():
    """Catches a crash in the middle of a run for want of a second sentence or document."""
    with pytest.raises(ValueError, match="none of 2 documents has two sentences"):
        PairBatches([[[1]], [[2], []]], draw_sentence_order, batch_size=1, max_len=9, **IDS)
    with pytest.raises(ValueError, match="max_len=4"):
        batches(max_len=4)
    with pytest.raises(ValueError, match="max_len=4"):
        join_pair([1], [2], cls_id=901, sep_id=902, max_len=4)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        batches(batch_size=0)
    for step in range(9):  # at the first pair already, not at the first wrong one
        lonely = PairBatches([[[1], [2]]], draw_next_sentence, batch_size=1, max_len=9, **IDS)
        with pytest.raises(ValueError, match="at least 2 documents"):
            lonely.batch(step)
