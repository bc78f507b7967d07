"""Searches against their formulas, counted with loops."""

import math

import pytest

from llmbook.retrieval import BM25, fuse, words

PASSAGES = [
    "The cat sat on the mat. The cat slept.",
    "A dog sat.",
    "Numbers: 3, 4 and 5; ÄPFEL and café.",
    "",
    "The dog and the cat and the mat and the dog.",
]


@pytest.mark.parametrize("question", ["cat", "the dog sat", "äpfel Café", "dog dog", "nothing here"])
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (0.0, 1.0), (2.0, 0.0)])
def test_scores_are_the_formula(question, k1, b):
    """Catches a length that is not that of words, a rarity of occurrences instead of passages, a word counted once."""
    split = [words(passage) for passage in PASSAGES]
    mean = sum(map(len, split)) / len(split)
    expected = []
    for passage in split:
        total = 0.0
        for word in words(question):
            n, f = sum(word in other for other in split), passage.count(word)
            total += (
                math.log(1 + (5 - n + 0.5) / (n + 0.5))
                * f
                * (k1 + 1)
                / (f + k1 * (1 - b + b * len(passage) / mean) or 1)
            )
        expected.append(total)
    assert BM25(PASSAGES, k1=k1, b=b).scores(question) == pytest.approx(expected)


def test_the_best_come_first_and_the_others_not_at_all():
    """Catches an order from the worst, and passages that share no word."""
    index = BM25(PASSAGES)
    assert index.search("cat on a mat") == [0, 1, 4]
    assert index.search("cat on a mat", n=1) == [0]
    assert index.search("zebra") == []


def test_ranks_are_put_together():
    """Catches ranks counted from 0, and items lost that only one order has."""
    assert fuse("abc", "bcd") == ["b", "c", "a", "d"]
    assert fuse("ab", k=0.5) == ["a", "b"]
    assert fuse([3, 1], [1, 3]) == [3, 1]
    assert fuse() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BM25([]), "no passages"),
        (lambda: BM25(["a"], b=2), "k1=1.5, b=2"),
        (lambda: BM25(["a"], k1=-1), "k1=-1"),
        (lambda: fuse("aa"), "names an item twice"),
        (lambda: fuse("a", k=-1), "k=-1"),
    ],
)
def test_nonsense_is_refused(call, message):
    """Catches an index that finds nothing, ever."""
    with pytest.raises(ValueError, match=message):
        call()
