"""Windows of a token stream: random ones to train on, consecutive ones to evaluate on.

The choice: unless told otherwise, windows are drawn with replacement from every possible start. That needs no order of
millions of starts to be remembered, but after as many windows as the text holds, 37 % of it (1/e) has not been read.
Without replacement every epoch reads all of it once, cut into windows at another place and in another order.

Shapes: B batch, T seq_len. Windows hold T+1 tokens: T inputs and, shifted by one, T targets.
"""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from llmbook.storage import whole_file
from llmbook.text.labels import IGNORE
from llmbook.text.numbered import NumberedBatches, numbered_generator, require_at_least

CHECKED_AT_ONCE = 1 << 20  # ids


def as_tokens(tokens: Sequence[int] | np.ndarray | Tensor, *, vocab_size: int | None = None) -> np.ndarray:
    """Ids as a 1-D array: uint16 where ``vocab_size`` allows it, else int32. Integer arrays are not copied.

    A memory-mapped array is taken as it is and its ids are not looked at, since that would load all of it.

    Raises ValueError for ids that are not a non-empty flat list of integers, and for the first id outside
    0 … ``vocab_size`` − 1, naming it and its position.
    """
    given = tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else tokens
    array = given if isinstance(given, np.ndarray) else np.asarray(given, dtype=None if len(given) else np.int32)
    if array.ndim != 1:
        raise ValueError(f"tokens must be one flat sequence of ids, got shape {array.shape}")
    if len(array) == 0:
        raise ValueError("there are no tokens: the text was empty")
    if array.dtype.kind not in "iu":
        raise ValueError(f"tokens must be integers, got {array.dtype}: encode the text first")
    limit = _limit(vocab_size)
    if isinstance(array, np.memmap):
        return array
    for start in range(0, len(array), CHECKED_AT_ONCE):
        _require_below(limit, array[start : start + CHECKED_AT_ONCE], start)
    if isinstance(given, np.ndarray) and vocab_size is None:
        return array
    return array.astype(np.uint16 if limit <= 2**16 else np.int32, copy=False)


def _limit(vocab_size: int | None) -> int:
    return np.iinfo(np.int32).max + 1 if vocab_size is None else vocab_size


def _require_below(limit: int, ids: np.ndarray, first: int | np.ndarray = 0) -> None:
    """Raise ValueError for an id outside 0 … ``limit`` − 1; ``first`` is the position of each row's first."""
    if ids.min() >= 0 and ids.max() < limit:
        return
    place = np.unravel_index(int(((ids < 0) | (ids >= limit)).argmax()), ids.shape)
    position = int(place[-1] + (first[place[0]] if isinstance(first, np.ndarray) else first))
    raise ValueError(
        f"id {ids[place]} at position {position:,} is outside the vocabulary (0 to {limit - 1}): "
        "the tokens were made by another tokenizer"
    )


class LMBatches(NumberedBatches):
    """An endless iterator of random windows for language modelling.

    Each item is ``{"input_ids": LongTensor[B, T+1]}``. ``tokens`` may be a list, array (also memory-mapped) or
    tensor; ``vocab_size``, if given, is checked against every id, in a memory-mapped array when its window is read.
    With ``replacement=False`` windows do not overlap and none comes twice before all have come, but for what does not
    fill a window or a batch at an epoch's end.

    Raises ValueError if the corpus has no window of ``seq_len`` + 1 tokens, or no batch of different ones.
    """

    def __init__(
        self,
        tokens: Sequence[int] | np.ndarray | Tensor,
        *,
        batch_size: int,
        seq_len: int,
        seed: int = 0,
        vocab_size: int | None = None,
        replacement: bool = True,
    ):
        require_at_least(1, batch_size=batch_size, seq_len=seq_len)
        require_at_least(0, seed=seed)
        self.tokens, self._limit = as_tokens(tokens, vocab_size=vocab_size), _limit(vocab_size)
        if len(self.tokens) < seq_len + 1:
            raise ValueError(
                f"the corpus has {len(self.tokens)} tokens, too few for one window of seq_len + 1 = {seq_len + 1}: "
                "use a longer text or a smaller seq_len"
            )
        self.batch_size, self.seq_len, self.seed, self.replacement = batch_size, seq_len, seed, replacement
        self._epoch: tuple[int, np.ndarray | None] = (-1, None)
        n_windows = (len(self.tokens) - seq_len) // seq_len  # wherever the first of them begins
        self.batches_per_epoch = n_windows // batch_size
        if not replacement and self.batches_per_epoch == 0:
            raise ValueError(
                f"the corpus has {n_windows} windows of {seq_len} tokens that do not overlap, too few for a batch of "
                f"{batch_size}: use a smaller batch_size, or replacement=True"
            )

    def starts(self, step: int) -> Int[np.ndarray, "B"]:
        """Where the windows of batch number ``step`` begin."""
        if not self.replacement:
            epoch, place = divmod(step, self.batches_per_epoch)
            return self._order(epoch)[place * self.batch_size :][: self.batch_size]
        generator = np.random.default_rng([self.seed, step])
        return generator.integers(0, len(self.tokens) - self.seq_len, size=self.batch_size)

    def _order(self, epoch: int) -> Int[np.ndarray, "N"]:
        """Where the windows of an epoch begin, in the order in which they come."""
        known, order = self._epoch
        if known != epoch or order is None:
            generator = numbered_generator("epochs", self.seed, epoch)
            first = generator.integers(0, self.seq_len)
            starts = np.arange(first, len(self.tokens) - self.seq_len, self.seq_len)
            order = generator.permutation(starts)
            self._epoch = epoch, order
        return order

    def batch(self, step: int) -> dict[str, Int[Tensor, "B width"]]:
        """Batch number ``step``, whatever has been drawn before. width = T + 1."""
        starts = self.starts(step)
        ids = self.tokens[starts[:, None] + np.arange(self.seq_len + 1)]  # [B, T+1]
        _require_below(self._limit, ids, starts)
        return {"input_ids": torch.from_numpy(ids.astype(np.int64))}

    def identity(self) -> dict[str, int | bool]:
        names = ("seed", "batch_size", "seq_len", "replacement")
        return {name: getattr(self, name) for name in names} | {"n_tokens": len(self.tokens)}


def eval_windows(
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    batch_size: int,
    seq_len: int,
    vocab_size: int | None = None,
) -> Iterator[dict[str, Int[Tensor, "B width"]]]:
    """Consecutive windows in which every token after the first is a target exactly once.

    Yields ``{"input_ids": [B, T+1], "labels": [B, T+1]}``; neighbouring windows share one token, which is the
    last target of one and the first input of the next. Labels are −100 at each window's first token (nothing
    precedes it) and beyond the end of the last window, where ``input_ids`` is 0. The last batch may have fewer
    rows. Raises ValueError, when called and not at the first item, for fewer than 2 tokens.
    """
    require_at_least(1, batch_size=batch_size, seq_len=seq_len)
    ids = as_tokens(tokens, vocab_size=vocab_size)
    if len(ids) < 2:
        raise ValueError("evaluation needs at least 2 tokens, one to read and one to predict; there is 1")
    return _windows(ids, batch_size, seq_len, _limit(vocab_size))


def _windows(ids: np.ndarray, batch_size: int, seq_len: int, limit: int) -> Iterator[dict[str, Int[Tensor, "B width"]]]:
    starts = np.arange(0, len(ids) - 1, seq_len)
    for first in range(0, len(starts), batch_size):
        places = starts[first : first + batch_size, None] + np.arange(seq_len + 1)  # [B, T+1]
        real = places < len(ids)
        read = ids[np.minimum(places, len(ids) - 1)]
        _require_below(limit, read, places[:, 0])
        inputs = np.where(real, read.astype(np.int64), 0)
        labels = np.where(real, inputs, IGNORE)
        labels[:, 0] = IGNORE
        yield {
            "input_ids": torch.from_numpy(inputs),
            "labels": torch.from_numpy(labels),
        }


def save_tokens(
    path: str | os.PathLike[str],
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    vocab_size: int,
) -> None:
    """Store ids as a .npy file, two bytes each up to 65,536 ids; the file appears whole or not at all."""
    array = as_tokens(tokens, vocab_size=vocab_size)
    with whole_file(path) as file:
        np.save(file, array)


def load_tokens(path: str | os.PathLike[str]) -> np.ndarray:
    """Ids stored by :func:`save_tokens`, memory-mapped: only the windows one reads are loaded."""
    return np.load(path, mmap_mode="r")
