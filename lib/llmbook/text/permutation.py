"""What a window is read as: a prefix and its continuation, or its tokens in an order drawn at random."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmbook.text.labels import IGNORE


def choose_prefix(batch: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
    """A change for ``MappedBatches``: add ``prefix_len`` [B], from 1 to the number of real tokens − 1.

    Raises ValueError for a row of fewer than 2 real tokens.
    """
    ids = batch["input_ids"]  # [B, T + 1]
    n_real = batch.get("attention_mask", torch.ones_like(ids)).sum(1).numpy()
    if n_real.min() < 2:
        raise ValueError(f"row {int(n_real.argmin())} has fewer than 2 tokens: one to read and one to predict")
    return {**batch, "prefix_len": torch.from_numpy(generator.integers(1, n_real))}


@dataclass(frozen=True, kw_only=True)
class PermuteOrder:
    """A change for ``MappedBatches``: add an ``order`` [B, T] and ``labels`` [B, T] at the end of it.

    ``order[b, i]`` is the place read as number i; every order is equally likely. The first tokens of an order would be
    guessed from almost nothing, so only the last share ``predict`` of each is a target (XLNet,
    https://arxiv.org/abs/1906.08237, §2.3, with its 1/6); the others have the label −100, as padding has. Raises
    ValueError for a ``predict`` outside (0, 1].
    """

    predict: float = 1 / 6

    def __post_init__(self) -> None:
        if not 0 < self.predict <= 1:
            raise ValueError(f"predict={self.predict}: must be above 0 and at most 1")

    def __call__(self, batch: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
        ids = batch["input_ids"]  # [B, T]
        n_tokens = ids.shape[1]
        order = torch.from_numpy(generator.permuted(np.tile(np.arange(n_tokens), (len(ids), 1)), axis=1))
        n_targets = max(round(n_tokens * self.predict), 1)
        labels = ids.scatter(1, order[:, : n_tokens - n_targets], IGNORE)
        if "attention_mask" in batch:
            labels = labels.masked_fill(~batch["attention_mask"].bool(), IGNORE)
        return {**batch, "order": order, "labels": labels}
