"""Words as they stand between spaces: counted, looked up, and placed by the company they keep.

This is what came before sub-word tokens and trained embeddings, and what they must be measured against. A text is a
*bag* of its words (which occur, not where). A word is a *vector* made from counts: with which words it stands
together more often than chance would have it, the positive pointwise mutual information

    PMI(w, c) = log p(w, c) / (p(w) p(c)^0.75),    negative ones as 0,

of which the singular value decomposition keeps the main directions (Levy, Goldberg & Dagan 2015,
https://aclanthology.org/Q15-1016). No gradient is needed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[^\s\w]|\d+")
SMOOTHING = 0.75  # of the counts of contexts, so that rare ones do not seem to say everything


def split_words(text: str) -> list[str]:
    """Words, numbers and marks in lower case: "It's bad!" → it's, bad, !"""
    return _WORD.findall(text.lower())


class WordVocabulary:
    """Numbers for words: 0 is any word that is not in it."""

    def __init__(self, words: Sequence[str]):
        self.words = ("<unknown>", *words)
        self.index = {word: i for i, word in enumerate(self.words)}

    @classmethod
    def train(cls, texts: Iterable[str], *, size: int) -> Self:
        """The ``size`` − 1 most frequent words, the most frequent first; equally frequent ones by alphabet."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split_words(text))
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[: size - 1])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """The number of each word, 0 for unknown ones."""
        return [self.index.get(word, 0) for word in split_words(text)]

    def bags(self, texts: Sequence[str]) -> Float[Tensor, "N V"]:
        """1 where a text has the word, else 0; unknown words are left out."""
        found = torch.zeros(len(texts), len(self))
        for row, text in enumerate(texts):
            found[row, self.encode(text)] = 1.0
        found[:, 0] = 0.0
        return found

    def vectors(
        self, texts: Iterable[str], *, width: int = 100, window: int = 4, seed: int = 0
    ) -> Float[Tensor, "V C"]:
        """A vector for each word, from how often words stand within ``window`` words of each other in ``texts``.

        A neighbour at distance d counts 1/d. A word that never occurs gets zeros.

        Raises:
            ValueError: ``width`` exceeds the number of words, or the texts hold no two known words together.
        """
        size = len(self)
        if not 1 <= width < size:
            raise ValueError(f"width={width}: {size} words allow from 1 to {size - 1} dimensions")
        gap = [0] * window  # between texts, so that none is its neighbour's company
        rows = np.concatenate([np.array([*self.encode(text), *gap], dtype=np.int64) for text in texts])
        distances = range(1, window + 1)
        pairs = np.concatenate([rows[:-d] * size + rows[d:] for d in distances])
        weights = np.concatenate([np.full(len(rows) - d, 1 / d) for d in distances])
        counts = np.bincount(pairs, weights, minlength=size * size)
        together = torch.from_numpy(counts).float().view(size, size)
        together = together + together.T
        together[0], together[:, 0] = 0.0, 0.0  # the unknown word keeps no company
        if not together.any():
            raise ValueError("no two words of the vocabulary stand together in these texts")
        by_word = together.sum(1)
        p_context = by_word**SMOOTHING / (by_word**SMOOTHING).sum()
        expected = by_word[:, None] * p_context  # how often they would stand together by chance
        information = torch.where(together > expected, (together / expected).log(), 0.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            left, sizes, _ = torch.svd_lowrank(information, q=width, niter=2)
        return left * sizes.sqrt() * (by_word > 0)[:, None]
