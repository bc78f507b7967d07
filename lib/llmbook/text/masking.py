"""Hide some tokens to be guessed from the others: BERT's masking (https://arxiv.org/abs/1810.04805, §3.1).

Of the 15 % of tokens that are to be guessed, 80 % become [MASK], 10 % a random token and 10 % stay as they are. A
model that only ever had to answer at [MASK] would have nothing to say about texts without it; this way any token may
be the wrong one. A tokenizer of this library has no [MASK]: give it the next free id, ``tokenizer.vocab_size``, and
the model a vocabulary one larger.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmbook.text.labels import IGNORE


@dataclass(frozen=True, kw_only=True)
class MaskTokens:
    """A change for ``MappedBatches``: ``input_ids`` [B, T] with tokens replaced, and ``labels`` [B, T] to guess.

    vocab_size: random tokens are drawn from 0 … vocab_size − 1, special ones excepted. mask_id: the id of [MASK].
    special_ids: tokens that are never chosen ([CLS], [SEP], padding). probability: of a token to be chosen; of those
    chosen, the share ``masked`` becomes [MASK], the share ``random`` a random token. Labels are −100 at every token
    that was not chosen. Where the batch has ``attention_mask``, padding is never chosen. Raises ValueError for a
    ``probability`` outside (0, 1], shares that are negative or more than 1 together, and when every token is special.
    """

    vocab_size: int
    mask_id: int
    special_ids: Collection[int] = ()
    probability: float = 0.15
    masked: float = 0.8
    random: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability={self.probability}: must be above 0 and at most 1")
        if self.masked < 0 or self.random < 0 or self.masked + self.random > 1:
            raise ValueError(f"masked={self.masked} and random={self.random} must be shares of at most 1 together")
        if not len(self._ordinary()):
            raise ValueError(f"all {self.vocab_size} tokens are special: nothing can be chosen")

    def __call__(self, batch: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
        ids = batch["input_ids"]  # [B, T]
        shape = tuple(ids.shape)
        chosen = torch.from_numpy(generator.random(shape) < self.probability)
        fate = torch.from_numpy(generator.random(shape))
        replacement = torch.from_numpy(generator.choice(self._ordinary(), size=shape))
        chosen &= ~torch.isin(ids, torch.tensor([*self.special_ids, self.mask_id]))
        if "attention_mask" in batch:
            chosen &= batch["attention_mask"].bool()
        hidden = ids.masked_fill(chosen & (fate < self.masked), self.mask_id)
        replaced = chosen & (fate >= self.masked) & (fate < self.masked + self.random)
        return {
            **batch,
            "input_ids": torch.where(replaced, replacement, hidden),
            "labels": ids.masked_fill(~chosen, IGNORE),
        }

    def _ordinary(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self.vocab_size), [*self.special_ids, self.mask_id])
