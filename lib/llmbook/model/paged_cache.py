"""The cache of a batch whose rows live in a pool of pages: rows of different length, that join and leave.

``append`` copies each row's keys out of its pages into one tensor, shorter rows padded on the left, so the model needs
no change: its queries are still the last of the keys, and ``attention_mask`` hides the padding. The kernel of
PagedAttention (https://arxiv.org/abs/2309.06180, §4.3) follows the block table instead and saves that copy.

          S = 5 keys, T = 2 queries                        attention_mask
    a     a0 a1 a2 │ a3 a4    3 cached, 2 new              1 1 1 │ 1 1
    b      ·  · b0 │ b1 b2    1 cached, 2 new              0 0 1 │ 1 1
    c      ·  ·  · │  · c0    joins with 1 new             0 0 0 │ 0 1
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmbook.model.cache import KeysValues, check_append, of_layer
from llmbook.model.conv_state import ConvState
from llmbook.model.page_pool import PagedSequence, PagePool


@dataclass(frozen=True)
class Layout:
    """Where the keys of one forward pass lie, the same in every layer; slots count positions through the pool."""

    is_new: Bool[Tensor, "B T"]  # False on the padding before a row's new tokens
    writes: Int[Tensor, "N"]  # a slot for each new token, row after row
    reads: Int[Tensor, "B S"]  # the slots of each row, in order of position


class PagedCache:
    """Row b of the model's input continues ``sequences[b]``. It owns nothing and is made for one batch.

    Rows may bring different numbers of new tokens, the shorter ones padded on the left::

        mask = cache.reserve([5, 1])  # T = 5: row 1 brings four paddings and one token
        model(ids, attention_mask=mask, cache=cache)

    Rows of equal length need neither: each then brings as many as the input is wide. Raises ValueError for no
    sequences.
    """

    def __init__(self, pool: PagePool, sequences: Sequence[PagedSequence]):
        if not sequences:
            raise ValueError("a batch needs at least one sequence")
        self.pool, self.sequences = pool, list(sequences)
        self._n_new: list[int] | None = None  # new tokens of each row, from reserve to advance
        self._layout: Layout | None = None
        self.conv_state: ConvState | None = None  # of a model with short convolutions, from layout to advance

    def reserve(self, n_new: Sequence[int]) -> Bool[Tensor, "B S"]:
        """Take the pages for ``n_new[b]`` more tokens of each row b, before the model runs.

        Returns the ``attention_mask`` to run it with: True on what each row holds, cached and new, its last columns.

        Raises:
            OutOfPages: too few are free; nothing has changed.
            ValueError: not one positive number for each row.
        """
        if len(n_new) != len(self.sequences) or min(n_new) < 1:
            raise ValueError(f"n_new={list(n_new)}: give each of the {len(self.sequences)} rows at least one token")
        self.pool.reserve(self.sequences, n_new)
        self._n_new, self._layout = list(n_new), None
        totals, n_keys = torch.tensor(self._totals(self._n_new)), self.n_keys(max(n_new))
        return (torch.arange(n_keys) >= n_keys - totals[:, None]).to(self.pool.keys.device)

    @property
    def length(self) -> int:
        """How many of the S keys come before the T new columns."""
        if self._n_new is None:
            return max(sequence.length for sequence in self.sequences)
        return max(self._totals(self._n_new)) - max(self._n_new)

    def n_keys(self, q_len: int) -> int:
        """How many keys ``append`` will return when ``q_len`` new ones come."""
        return self.length + q_len

    def layer(self, index: int) -> "PagedLayerCache":
        return PagedLayerCache(self, index)

    def advance(self, n_tokens: int) -> None:
        """Count the tokens every layer has just appended, in each row its own number."""
        for sequence, n in zip(self.sequences, self._n_new, strict=True):
            sequence.length += n
        if self.conv_state is not None:
            self.conv_state.advance()
        self._n_new, self._layout, self.conv_state = None, None, None

    def layout(self, q_len: int) -> Layout:
        """Where this pass writes and reads. Padding reads the row's own first position, and the mask hides it.

        Raises:
            OutOfPages: too few pages are free.
            ValueError: not as many tokens as were reserved, or rows of unequal length without ``reserve`` and its mask.
        """
        if self._n_new is None:
            n_new = [q_len] * len(self.sequences)
            totals = self._totals(n_new)
            if min(totals) < max(totals):
                raise ValueError(f"rows hold {totals} positions: pass attention_mask=cache.reserve({n_new})")
            self.reserve(n_new)
        if q_len != max(self._n_new):
            raise ValueError(f"room was reserved for {self._n_new} new tokens a row, but {q_len} have come")
        if self._layout is None:
            totals, n_keys = self._totals(self._n_new), self.n_keys(q_len)
            slots = [self.pool.slots(s, total) for s, total in zip(self.sequences, totals, strict=True)]
            writes = [row[-n:] for row, n in zip(slots, self._n_new, strict=True)]
            reads = [torch.cat([row[:1].expand(n_keys - len(row)), row]) for row in slots]
            is_new = torch.arange(q_len) >= q_len - torch.tensor(self._n_new)[:, None]
            if self.sequences[0].inputs is not None:
                self.conv_state = ConvState(self.sequences, self._n_new)
            device = self.pool.keys.device
            self._layout = Layout(is_new.to(device), torch.cat(writes).to(device), torch.stack(reads).to(device))
        return self._layout

    def _totals(self, n_new: list[int]) -> list[int]:
        return [sequence.length + n for sequence, n in zip(self.sequences, n_new, strict=True)]


class PagedLayerCache:
    """One layer's share of a paged cache."""

    def __init__(self, cache: PagedCache, index: int):
        self.cache, self.index = cache, index

    def append(self, k: Float[Tensor, "B Hk T D"], v: Float[Tensor, "B Hk T D"]) -> KeysValues:
        """Write the new keys and values into their pages and return each row's, padded on the left.

        Raises as ``_lay_out`` does, and as ``of_layer``.
        """
        pages = of_layer(self.cache.pool.keys, self.index)  # [n_pages, page_size, Hk, D]
        at = self._lay_out(k, pages.transpose(1, 2))
        keys = pages.flatten(0, 1)  # [slots, Hk, D], a view
        values = self.cache.pool.values[self.index].flatten(0, 1)
        keys[at.writes] = k.transpose(1, 2)[at.is_new]  # [B, T, Hk, D] -> [N, Hk, D]
        values[at.writes] = v.transpose(1, 2)[at.is_new]
        return keys[at.reads].transpose(1, 2), values[at.reads].transpose(1, 2)  # [B, S, Hk, D] -> [B, Hk, S, D]

    def look_back(self, place: int, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B KT C"]:
        """What a short convolution has read last in each row, and the new behind it.

        Raises as ``append`` does, and ValueError for pages of a model that has no convolutions.
        """
        inputs = self.cache.sequences[0].inputs  # [L, 2, K - 1, C]
        if inputs is None:
            raise ValueError("the pool was made for a model with conv_width=None: make it from the model's own config")
        self._lay_out(x, of_layer(inputs, self.index)[place])
        return self.cache.conv_state.window(self.index, place, x)

    def _lay_out(self, new: Tensor, memory: Tensor) -> Layout:
        """Where the next columns go. Raises as ``PagedCache.layout`` and ``check_append``."""
        check_append(new, memory, batch=len(self.cache.sequences))
        return self.cache.layout(new.shape[-2])
