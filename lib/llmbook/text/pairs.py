"""Two sentences and a question about them: does the second follow the first, and are they in order?

Next-sentence prediction (BERT, https://arxiv.org/abs/1810.04805, §3.1) takes the wrong second sentence from another
document, so the topic alone often betrays it. Sentence-order prediction (ALBERT, https://arxiv.org/abs/1909.11942,
§3.1) swaps two neighbours: the topic is the same, and only coherence can tell.

    [CLS] a a a [SEP] b b [SEP]     input_ids
      0   0 0 0   0   1 1   1       segment_ids
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from llmbook.text.numbered import NumberedBatches, numbered_generator, require_at_least

Sentence = Sequence[int]
Documents = Sequence[Sequence[Sentence]]
Draw = Callable[[Documents, np.random.Generator], tuple[Sentence, Sentence, int]]


def draw_next_sentence(documents: Documents, generator: np.random.Generator) -> tuple[Sentence, Sentence, int]:
    """A sentence, and with label 0 the one that follows it, with label 1 one from another document; half each.

    Raises ValueError for a single document.
    """
    if len(documents) < 2:
        raise ValueError("next-sentence prediction needs at least 2 documents: a wrong sentence comes from another one")
    index, place = _draw_place(documents, generator)
    first = documents[index][place]
    if generator.random() < 0.5:
        return first, documents[index][place + 1], 0
    other = documents[(index + int(generator.integers(1, len(documents)))) % len(documents)]
    return first, other[int(generator.integers(len(other)))], 1


def draw_sentence_order(documents: Documents, generator: np.random.Generator) -> tuple[Sentence, Sentence, int]:
    """Two neighbouring sentences, with label 0 in their order, with label 1 swapped; half each."""
    index, place = _draw_place(documents, generator)
    first, second = documents[index][place], documents[index][place + 1]
    return (first, second, 0) if generator.random() < 0.5 else (second, first, 1)


def join_pair(
    first: Sentence, second: Sentence, *, cls_id: int, sep_id: int, max_len: int
) -> tuple[list[int], list[int]]:
    """``input_ids`` and ``segment_ids`` of a pair, at most ``max_len`` long.

    What is too long loses tokens one by one from the longer sentence: the first from its beginning, the second from
    its end, so that the border between them stays. Raises ValueError if not a token of each would be left.
    """
    if max_len < 5:
        raise ValueError(f"max_len={max_len}: [CLS] a [SEP] b [SEP] needs at least 5")
    first, second = list(first), list(second)
    excess = max(len(first) + len(second) + 3 - max_len, 0)
    cut_first = sorted((0, (len(first) - len(second) + excess + 1) // 2, excess))[1]
    first, second = first[cut_first:], second[: len(second) - (excess - cut_first)]
    ids = [cls_id, *first, sep_id, *second, sep_id]
    return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1)


class PairBatches(NumberedBatches):
    """An endless iterator of labelled pairs; batch number k is a pure function of (seed, k).

    Items are ``input_ids``, ``segment_ids``, ``attention_mask`` [B, T], padded on the right up to the longest pair, and
    ``labels`` [B]. documents: lists of sentences, each a list of ids. draw: ``draw_next_sentence`` or
    ``draw_sentence_order``. Raises ValueError if no document has two sentences.
    """

    def __init__(
        self,
        documents: Documents,
        draw: Draw,
        *,
        batch_size: int,
        max_len: int,
        cls_id: int,
        sep_id: int,
        pad_id: int,
        seed: int = 0,
    ):
        require_at_least(1, batch_size=batch_size)
        require_at_least(0, seed=seed)
        if max_len < 5:
            raise ValueError(f"max_len={max_len}: [CLS] a [SEP] b [SEP] needs at least 5")
        self.documents = [[s for s in document if len(s)] for document in documents]
        self.documents = [document for document in self.documents if document]
        if not any(len(document) > 1 for document in self.documents):
            raise ValueError(f"none of {len(documents)} documents has two sentences: there is no pair")
        self.draw, self.batch_size, self.max_len = draw, batch_size, max_len
        self.cls_id, self.sep_id, self.pad_id, self.seed = cls_id, sep_id, pad_id, seed

    def batch(self, step: int) -> dict[str, Tensor]:
        """Batch number ``step``."""
        generator = numbered_generator("pairs", self.seed, step)
        rows, labels = [], []
        for _ in range(self.batch_size):
            first, second, label = self.draw(self.documents, generator)
            rows.append(join_pair(first, second, cls_id=self.cls_id, sep_id=self.sep_id, max_len=self.max_len))
            labels.append(label)
        width = max(len(ids) for ids, _ in rows)
        gaps = [width - len(ids) for ids, _ in rows]
        return {
            "input_ids": torch.tensor([ids + [self.pad_id] * gap for (ids, _), gap in zip(rows, gaps, strict=True)]),
            "segment_ids": torch.tensor([seg + [0] * gap for (_, seg), gap in zip(rows, gaps, strict=True)]),
            "attention_mask": torch.tensor([[1] * (width - gap) + [0] * gap for gap in gaps]),
            "labels": torch.tensor(labels),
        }

    def identity(self) -> dict[str, int]:
        n_sentences = sum(len(document) for document in self.documents)
        names = ("seed", "batch_size", "max_len")
        return {name: getattr(self, name) for name in names} | {"n_sentences": n_sentences}


def _draw_place(documents: Documents, generator: np.random.Generator) -> tuple[int, int]:
    """A document and a sentence in it that has a successor; every such sentence is equally likely."""
    n_pairs = np.cumsum([len(document) - 1 for document in documents])
    number = generator.integers(n_pairs[-1])
    index = int(np.searchsorted(n_pairs, number, side="right"))
    return index, int(number - (n_pairs[index - 1] if index else 0))
