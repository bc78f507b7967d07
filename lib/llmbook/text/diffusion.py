"""Hide any share of a text: the forward process of masked diffusion (https://arxiv.org/abs/2406.07524).

For each text a share t is drawn, evenly between 0 and 1, and each of its tokens is hidden with probability t: from
nearly all of the text given to nearly none. ``masked_diffusion_loss`` weighs each text by 1/t. BERT's masking is the
same with t fixed at 0.15; a model that has seen every t can write a whole text, by uncovering it bit by bit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmbook.text.labels import IGNORE


@dataclass(frozen=True, kw_only=True)
class HideShare:
    """A change for ``MappedBatches``: ``input_ids`` [B, T] with tokens hidden, ``labels`` [B, T] and ``share`` [B].

    mask_id: the id of [MASK]. least: shares are drawn from ``least`` to 1; a share near 0 would have a weight without
    bound. The shares of a batch are spread over this range (one random offset, then even steps in random order), which
    leaves each of them even and lowers the noise of the loss. Labels are −100 where nothing is hidden; padding, where
    the batch has ``attention_mask``, never is. Raises ValueError for a ``least`` outside (0, 1).
    """

    mask_id: int
    least: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.least < 1:
            raise ValueError(f"least={self.least}: must lie between 0 and 1")

    def __call__(self, batch: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
        ids = batch["input_ids"]  # [B, T]
        n_rows = len(ids)
        even = (generator.random() + generator.permutation(n_rows)) / n_rows  # each in [0, 1), as evenly as can be
        share = torch.from_numpy(self.least + (1 - self.least) * (even % 1))
        hidden = torch.from_numpy(generator.random(tuple(ids.shape))) < share[:, None]
        if "attention_mask" in batch:
            hidden &= batch["attention_mask"].bool()
        return {
            **batch,
            "input_ids": ids.masked_fill(hidden, self.mask_id),
            "labels": ids.masked_fill(~hidden, IGNORE),
            "share": share.float(),
        }
