"""Cut spans out of a text and ask for them: T5's span corruption (https://arxiv.org/abs/1910.10683, §3.1.4).

    text     Thank you for inviting me to your party last week
    input    Thank you ⟨0⟩ me to your party ⟨1⟩ week
    output   ⟨0⟩ for inviting ⟨1⟩ last ⟨2⟩

A sentinel ⟨i⟩ stands for span i in the input and announces it in the output; one more ends the output. For a given
length of text the number of tokens and of spans cut out is fixed, so every row of a batch has the same length and
nothing is padded; which tokens they are is drawn. Any token may be cut out (T5's own code always ends with a span).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Span = tuple[int, int]  # first token, and the one after the last


def draw_spans(n_tokens: int, *, n_cut: int, n_spans: int, generator: np.random.Generator) -> list[Span]:
    """``n_spans`` spans of ``n_cut`` tokens together, none touching another; every such choice is equally likely.

    Raises ValueError if there is no such choice.
    """
    if not 1 <= n_spans <= min(n_cut, n_tokens - n_cut + 1):
        raise ValueError(
            f"n_spans={n_spans} of n_cut={n_cut} tokens cannot lie apart among n_tokens={n_tokens}: there may be 1 to "
            f"{min(n_cut, n_tokens - n_cut + 1)}"
        )
    # Where spans end among the tokens cut out: n_spans parts of at least one token each.
    ends = np.sort(generator.choice(n_cut - 1, size=n_spans - 1, replace=False)) + 1
    lengths = np.diff([0, *ends, n_cut])
    # Before which of the tokens kept (or behind the last) each span stands: two in one place would touch.
    kept_before = np.sort(generator.choice(n_tokens - n_cut + 1, size=n_spans, replace=False))
    starts = kept_before + np.cumsum([0, *lengths[:-1]])
    return [(int(start), int(start + length)) for start, length in zip(starts, lengths, strict=True)]


def cut_spans(ids: Sequence[int], spans: Sequence[Span], sentinel_ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """The text with a sentinel in place of each span, and the spans, each behind its sentinel, with one to end.

    Raises ValueError for fewer sentinels than spans and one.
    """
    if len(sentinel_ids) <= len(spans):
        raise ValueError(
            f"{len(spans)} spans need {len(spans) + 1} sentinels, one for each and one to end; there are "
            f"{len(sentinel_ids)}: give more sentinel_ids"
        )
    text, output, position = [], [], 0
    for (start, end), sentinel in zip(spans, sentinel_ids, strict=False):
        text += [*ids[position:start], sentinel]
        output += [sentinel, *ids[start:end]]
        position = end
    return [*text, *ids[position:]], [*output, sentinel_ids[len(spans)]]


def restore_spans(text: Sequence[int], output: Sequence[int], sentinel_ids: Sequence[int]) -> list[int]:
    """The original: every sentinel of ``text`` replaced by what follows it in ``output``; the inverse of the cut."""
    sentinels = set(sentinel_ids)
    spans: dict[int, list[int]] = {}
    current: list[int] | None = None
    for token in output:
        if token in sentinels:
            current = spans.setdefault(token, [])
        elif current is not None:
            current.append(token)
    return [token for place in text for token in (spans.get(place, []) if place in sentinels else [place])]


@dataclass(frozen=True, kw_only=True)
class CorruptSpans:
    """A change for ``MappedBatches``: ``input_ids`` [B, N] become a text with gaps [B, M] and an output to write.

    sentinel_ids: the ids of ⟨0⟩, ⟨1⟩, …; beyond the tokenizer's they are ``range(vocab_size, vocab_size + 100)``.
    start_id: stands before every output, in ``decoder_input_ids`` [B, T+1]. probability: the share of tokens cut out,
    in spans of ``mean_span`` tokens on average. What else a batch holds stays as it is. Raises ValueError for padded
    batches, for too few sentinels, for a ``probability`` outside (0, 1) and a ``mean_span`` below 1.
    """

    sentinel_ids: Sequence[int]
    start_id: int
    probability: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise ValueError(f"probability={self.probability}: must lie between 0 and 1")
        if self.mean_span < 1:
            raise ValueError(f"mean_span={self.mean_span}: a span has at least 1 token")

    def __call__(self, batch: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
        if "attention_mask" in batch:
            raise ValueError("CorruptSpans takes rows of one length: cut texts into windows in place of padding them")
        rows = batch["input_ids"].tolist()
        n_cut, n_spans = self.sizes(len(rows[0]))
        texts, outputs = [], []
        for ids in rows:
            spans = draw_spans(len(ids), n_cut=n_cut, n_spans=n_spans, generator=generator)
            text, output = cut_spans(ids, spans, self.sentinel_ids)
            texts.append(text)
            outputs.append([self.start_id, *output])
        return {**batch, "input_ids": torch.tensor(texts), "decoder_input_ids": torch.tensor(outputs)}

    def sizes(self, n_tokens: int) -> tuple[int, int]:
        """How many tokens are cut out of ``n_tokens``, and in how many spans.

        Raises ValueError for fewer than 2 tokens, and for more spans than there are sentinels.
        """
        if n_tokens < 2:
            raise ValueError(f"a text of {n_tokens} token cannot be cut and still be read: give 2 or more")
        n_cut = min(max(round(n_tokens * self.probability), 1), n_tokens - 1)
        n_spans = min(max(round(n_cut / self.mean_span), 1), n_tokens - n_cut + 1)
        if n_spans + 1 > len(self.sentinel_ids):
            raise ValueError(
                f"{n_tokens} tokens need {n_spans + 1} sentinels, {n_spans} for spans and one to end; there are "
                f"{len(self.sentinel_ids)}: give more sentinel_ids or shorter texts"
            )
        return n_cut, n_spans
