"""Move the middle of a text to its end, so that a causal model learns to fill gaps (https://arxiv.org/abs/2207.14255).

    text     to be or not to be
    row      ⟨pre⟩ to be ⟨suf⟩ to be ⟨mid⟩ or not

A model that reads from left to right has read both sides of the gap when it comes to write it. Nothing else changes:
the mask is causal and the loss that of ``causal_lm_loss``, over all tokens. The paper calls this order PSM.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MoveMiddle:
    """A change for ``MappedBatches``: each row of ``input_ids`` [B, N] is rearranged with probability ``rate``.

    pre_id, suf_id, mid_id: three ids that the text does not use. The middle lies between two different places drawn
    from all borders between tokens, so it has at least one token. A rearranged row gives up its last three tokens to
    the three signs, so that all rows keep N tokens; the others stay as they are. Raises ValueError for a ``rate``
    outside [0, 1], signs that are not different, padded batches and rows of fewer than 4 tokens.
    """

    pre_id: int
    suf_id: int
    mid_id: int
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate={self.rate}: must lie between 0 and 1")
        if len({self.pre_id, self.suf_id, self.mid_id}) < 3:
            raise ValueError(f"pre_id={self.pre_id}, suf_id={self.suf_id} and mid_id={self.mid_id} must be different")

    def __call__(self, batch: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
        if "attention_mask" in batch:
            raise ValueError("MoveMiddle takes rows of one length: cut texts into windows in place of padding them")
        rows = batch["input_ids"].tolist()
        if len(rows[0]) < 4:
            raise ValueError(f"a row of {len(rows[0])} tokens has no room for three signs and a middle: give 4 or more")
        moved = []
        for ids in rows:
            start, end = np.sort(generator.choice(len(ids) - 2, size=2, replace=False)).tolist()
            rearrange = generator.random() < self.rate
            moved.append(self.move(ids[:-3], start, end) if rearrange else ids)
        return {**batch, "input_ids": torch.tensor(moved)}

    def move(self, ids: Sequence[int], start: int, end: int) -> list[int]:
        """``ids`` with the tokens from ``start`` up to ``end`` at the end: three tokens longer.

        Raises ValueError for places outside the text, and for an ``end`` before ``start``.
        """
        if not 0 <= start <= end <= len(ids):
            raise ValueError(f"start={start} and end={end} are no places in order within {len(ids)} tokens")
        middle = list(ids[start:end])
        return [self.pre_id, *ids[:start], self.suf_id, *ids[end:], self.mid_id, *middle]

    def restore(self, row: Sequence[int]) -> list[int]:
        """The text of a rearranged row. Raises ValueError for a row without the three signs in their order."""
        row = list(row)
        signs = (self.pre_id, self.suf_id, self.mid_id)
        if any(row.count(sign) != 1 for sign in signs) or not 0 == row.index(signs[0]) < row.index(
            signs[1]
        ) < row.index(signs[2]):
            raise ValueError(f"the row does not hold the signs {signs} once each, in this order, the first in front")
        suffix, middle = row.index(self.suf_id), row.index(self.mid_id)
        return [*row[1:suffix], *row[middle + 1 :], *row[suffix + 1 : middle]]
