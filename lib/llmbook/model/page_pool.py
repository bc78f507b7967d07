"""Memory for keys and values in pages: many sequences of unequal length, nothing set aside in advance.

A contiguous cache reserves room for the longest text that might come, and most of it stays empty. Here, as in
PagedAttention (https://arxiv.org/abs/2309.06180, §4), memory is cut into pages of a few positions. A sequence takes a
page when its last one is full, and gives all of them back when it ends. Its block table names its pages in order, so
they may lie anywhere; less than one page for each sequence stays empty.

    page 0  a4 ·  ·  ·     table of a: [2, 0]
    page 1  b0 b1 ·  ·     table of b: [1]
    page 2  a0 a1 a2 a3
    page 3  free

Sequences may share pages, such as those of a common prompt: a page counts who reads it, and who writes into a page
that others read gets a copy first.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmbook.model.config import TransformerConfig


class OutOfPages(RuntimeError):
    """The pool cannot give the pages asked for. Nothing has changed, and freeing a sequence makes room."""


@dataclass(eq=False)
class PagedSequence:
    """One text in the pool: its block table, and how many positions are filled.

    For a model with short convolutions over K positions, ``inputs`` [L, 2, K - 1, C] is what both of a block have read
    last. That does not grow with the text, so it takes no page; it is replaced, never written into.
    """

    pages: list[int]
    length: int = 0
    inputs: Float[Tensor, "L 2 K1 C"] | None = None


@dataclass(frozen=True)
class PoolUse:
    """Bytes of keys and values: in the whole pool, in pages that sequences hold, in positions that are filled.

    What several sequences share counts once.
    """

    reserved: int
    held: int
    filled: int

    @property
    def wasted(self) -> int:
        """Bytes no other sequence can have although nothing is in them."""
        return self.held - self.filled


class PagePool:
    """The memory of all sequences: keys and values of all layers, [L, n_pages, page_size, Hk, D].

    Raises ValueError for less than one page, or one position a page, and for mixers, whose states have none.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        n_pages: int,
        page_size: int = 16,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if n_pages < 1 or page_size < 1:
            raise ValueError(f"n_pages={n_pages}, page_size={page_size}: a pool needs a page, and a page a position")
        if any(config.mixers):
            raise ValueError(f"mixers={config.mixers}: pages hold keys and values, and a mixer's state has no pages")
        self.n_pages, self.page_size = n_pages, page_size
        shape = (config.n_layers, n_pages, page_size, config.n_kv_heads, config.d_head)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self._no_inputs = None  # what a sequence begins with
        if config.conv_width is not None:
            shape = (config.n_layers, 2, config.conv_width - 1, config.d_model)
            self._no_inputs = torch.zeros(shape, device=device, dtype=dtype)
        self._free = list(range(n_pages))
        self._readers = [0] * n_pages  # how many sequences hold each page
        self._sequences: list[PagedSequence] = []

    @property
    def n_free(self) -> int:
        return len(self._free)

    def pages_for(self, n_positions: int) -> int:
        return -(-n_positions // self.page_size)

    def new_sequence(self) -> PagedSequence:
        """An empty sequence; it takes its first page when something is appended."""
        sequence = PagedSequence(pages=[], inputs=self._no_inputs)
        self._sequences.append(sequence)
        return sequence

    def fork(self, sequence: PagedSequence) -> PagedSequence:
        """A second sequence that begins as the first does; they share its pages until one of them writes."""
        twin = PagedSequence(list(sequence.pages), sequence.length, sequence.inputs)
        for page in twin.pages:
            self._readers[page] += 1
        self._sequences.append(twin)
        return twin

    def free(self, sequence: PagedSequence) -> None:
        """Give the pages back, but for those that others read. Raises ValueError if that has been done before."""
        if sequence not in self._sequences:
            raise ValueError("this sequence is not in the pool: it was freed before, or belongs to another pool")
        self._sequences.remove(sequence)
        for page in sequence.pages:
            self._release(page)
        sequence.pages, sequence.length, sequence.inputs = [], 0, self._no_inputs

    def pages_missing(self, sequences: Sequence[PagedSequence], n_new: Sequence[int]) -> int:
        """How many free pages it takes to append ``n_new[i]`` positions to each of the ``sequences``."""
        missing, writers = 0, Counter()
        for sequence, n in zip(sequences, n_new, strict=True):
            missing += max(self.pages_for(sequence.length + n) - len(sequence.pages), 0)
            writers.update(sequence.pages[i] for i in self._written(sequence, n))
        # Of several that read a page and write into it, each takes a copy, but the last reader keeps the page itself.
        return missing + sum(min(n, self._readers[page] - 1) for page, n in writers.items())

    def reserve(self, sequences: Sequence[PagedSequence], n_new: Sequence[int]) -> None:
        """Give each sequence the pages its new positions need: to all of them, or to none.

        Raises:
            OutOfPages: too few are free; nothing has changed.
        """
        missing = self.pages_missing(sequences, n_new)
        if missing > self.n_free:
            raise OutOfPages(f"{missing} pages of {self.page_size} positions are needed and {self.n_free} are free")
        for sequence, n in zip(sequences, n_new, strict=True):
            for i in self._written(sequence, n):
                if self._readers[sequence.pages[i]] > 1:
                    self._copy_page(sequence, i)
            while len(sequence.pages) < self.pages_for(sequence.length + n):
                sequence.pages.append(self._take())

    def slots(self, sequence: PagedSequence, n_positions: int) -> Int[Tensor, "N"]:
        """Where the first ``n_positions`` of a sequence lie, counting positions through all pages of the pool."""
        position = torch.arange(n_positions)
        page = torch.tensor(sequence.pages)[position // self.page_size]
        return page * self.page_size + position % self.page_size

    def use(self) -> PoolUse:
        """What the pool reserves, holds and fills, in bytes."""
        total = self.keys.nbytes + self.values.nbytes
        bytes_per_position = total // (self.n_pages * self.page_size)
        filled: dict[int, int] = {}  # page: positions in use
        for sequence in self._sequences:
            for i, page in enumerate(sequence.pages):
                here = min(max(sequence.length - i * self.page_size, 0), self.page_size)
                filled[page] = max(filled.get(page, 0), here)
        return PoolUse(
            reserved=total,
            held=len(filled) * self.page_size * bytes_per_position,
            filled=sum(filled.values()) * bytes_per_position,
        )

    def _written(self, sequence: PagedSequence, n_new: int) -> range:
        """Which of the sequence's pages the next ``n_new`` positions fall into; more may be reserved than filled."""
        end = min(self.pages_for(sequence.length + n_new), len(sequence.pages))
        return range(sequence.length // self.page_size, end if n_new else 0)

    def _copy_page(self, sequence: PagedSequence, i: int) -> None:
        shared, own = sequence.pages[i], self._take()
        self.keys[:, own], self.values[:, own] = self.keys[:, shared], self.values[:, shared]
        self._release(shared)
        sequence.pages[i] = own

    def _take(self) -> int:
        page = self._free.pop()
        self._readers[page] = 1
        return page

    def _release(self, page: int) -> None:
        self._readers[page] -= 1
        if self._readers[page] == 0:
            self._free.append(page)
