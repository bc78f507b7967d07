"""Bags and vectors of words against counts made by hand."""

import math

import pytest
import torch

from llmbook.text import WordVocabulary, split_words


def test_words_are_what_stands_between_spaces_and_marks():
    """Catches an apostrophe that cuts a word, a mark that sticks to one, and capitals that make a second word."""
    assert split_words("It's BAD!") == ["it's", "bad", "!"]
    assert split_words("Été 1942.") == ["été", "1942", "."]


def test_the_vocabulary_is_the_most_frequent_words():
    """Catches ties in an order that depends on the text's, and a size that forgets the unknown word."""
    vocabulary = WordVocabulary.train(["b a c a", "b d a"], size=4)
    assert vocabulary.words == ("<unknown>", "a", "b", "c")
    assert vocabulary.encode("a z C") == [1, 0, 3]


def test_bags_say_which_words_occur():
    """Catches counting a word twice, and a column for what is unknown."""
    vocabulary = WordVocabulary(["a", "b"])
    assert vocabulary.bags(["a a z", "b a", "z"]).tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_vectors_keep_what_the_formula_says():
    """Catches a one-sided window, a missing weight 1/d, texts that run into each other, and an unsmoothed context.

    With all but one dimension kept the products of a symmetric matrix's vectors give back its positive part; here a
    and b meet once at distance 1 and c and d once, so PMI(a, b) is log of p(a,b) / (p(a) p(b)^.75 normalised).
    """
    vocabulary = WordVocabulary(["a", "b", "c", "d"])
    vectors = vocabulary.vectors(["a b", "c d"], width=4, window=2).double()
    expected = math.log(0.25 / (0.25 * 0.25))  # all words equally frequent: smoothing changes nothing
    singular = vectors.T @ vectors  # U S U' has the singular values of the information matrix on its diagonal
    assert torch.allclose(singular.diagonal(), torch.full((4,), expected, dtype=torch.float64), atol=1e-4)
    assert torch.equal(vectors[0], torch.zeros(4, dtype=torch.float64))


def test_words_in_the_same_company_are_neighbours():
    """Catches directions that do not belong to words: synonyms must be closer than other words."""
    texts = ["the cat drinks milk", "the dog drinks water", "a cat eats fish", "a dog eats meat"] * 3
    vocabulary = WordVocabulary.train(texts, size=20)
    vectors = torch.nn.functional.normalize(vocabulary.vectors(texts, width=4), dim=1)
    cat, dog, milk = (vectors[vocabulary.index[word]] for word in ("cat", "dog", "milk"))
    assert cat @ dog > cat @ milk


@pytest.mark.parametrize("width", [0, 5])
def test_impossible_widths_are_named(width):
    """Catches a decomposition asked for more directions than there are words."""
    with pytest.raises(ValueError, match=f"width={width}"):
        WordVocabulary(["a", "b", "c", "d"]).vectors(["a b"], width=width)


def test_texts_without_known_pairs_are_refused():
    """Catches vectors of zeros made of nothing."""
    with pytest.raises(ValueError, match="no two words"):
        WordVocabulary(["a", "b", "c"]).vectors(["x y z"], width=2)
