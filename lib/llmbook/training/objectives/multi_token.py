"""Predict the next several tokens at once, each by a head of its own (https://arxiv.org/abs/2404.19737).

    causal          t₁ t₂ t₃ → t₄
    multi-token     t₁ t₂ t₃ → t₄, t₅, t₆     by heads 1, 2, 3

Only the first head is needed afterwards; the others may draft tokens that the first one checks.
"""

import torch

from llmbook.model import MultiTokenLM
from llmbook.text.labels import IGNORE
from llmbook.training.objectives.base import Batch, Loss, summed, tensor


def multi_token_loss(model: MultiTokenLM, batch: Batch) -> Loss:
    """−Σ log p of each token by every head that reaches it, in nats; each head's targets count alike.

    ``batch["input_ids"]`` is [B, N]; all but the last token are read. Optional ``labels`` [B, N]: what to predict, −100
    where nothing is scored. Raises ValueError for texts without room for one prediction of the last head.
    """
    ids = tensor(batch, "input_ids")
    labels = tensor(batch, "labels") if "labels" in batch else ids
    if ids.shape[1] <= model.n_future:
        raise ValueError(f"input_ids has {ids.shape[1]} tokens a row: {model.n_future} heads need one more than that")
    losses = []
    for k, logits in enumerate(model.futures(ids[:, :-1]), start=1):
        # The state at place t has read t; head k is scored against t + k. Beyond the end there is nothing.
        targets = torch.full_like(labels[:, 1:], IGNORE)
        targets[:, : labels.shape[1] - k] = labels[:, k:]
        losses.append(summed(logits, targets))
    return Loss(torch.stack([one.total for one in losses]).sum(), torch.stack([one.n_targets for one in losses]).sum())
