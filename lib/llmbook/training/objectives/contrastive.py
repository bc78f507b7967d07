r"""Bring two views of one thing together and push the others away: InfoNCE (https://arxiv.org/abs/1807.03748).

For B pairs of vectors a_i, b_i of length 1 and a temperature τ, every b_j is a possible partner of a_i and only b_i
the right one, so the loss is that of a classification among the B of the batch, read in both directions:

$$\ell = -\tfrac12 \sum_i \left[\log \frac{e^{a_i \cdot b_i/\tau}}{\sum_j e^{a_i \cdot b_j/\tau}}
                              + \log \frac{e^{a_i \cdot b_i/\tau}}{\sum_j e^{a_j \cdot b_i/\tau}}\right]$$

The negatives are the other pairs of the *same micro-batch* of one process: two micro-batches of 8 are not one batch of
16, and the loss grows with ln B. So give the micro-batch the size you mean; neither accumulation nor more processes
replace it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model import pool
from llmbook.model.heads import Pooling
from llmbook.training.objectives.base import Batch, Loss, optional, tensor, token_nll


def info_nce(a: Float[Tensor, "B C"], b: Float[Tensor, "B C"], *, temperature: float) -> Loss:
    """The symmetric loss in nats of B pairs against the B−1 others, summed over pairs; vectors get length 1.

    Raises ValueError for a ``temperature`` that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: must be positive; 0.05 to 0.1 is usual")
    with torch.autocast(a.device.type, enabled=False):  # bfloat16's three digits over 0.05 are errors of 0.1 nats
        similarity = F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T / temperature  # [B, B]
    partner = torch.arange(len(a), device=a.device)
    total = (token_nll(similarity, partner).sum() + token_nll(similarity.T, partner).sum()) / 2
    return Loss(total, torch.tensor(len(a), device=a.device))


@dataclass(frozen=True, kw_only=True)
class ContrastiveLoss:
    """The objective of an encoder that gives similar texts similar vectors.

    A batch holds ``input_ids`` [B, T] and ``positive_ids`` [B, U], row i of one being the partner of row i of the
    other, and ``attention_mask`` and ``positive_mask`` of their shapes where rows are padded. One vector a text is
    taken by ``pool(..., pooling=pooling)``.
    """

    temperature: float = 0.05
    pooling: Pooling = "mean"

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        masks = optional(batch, "attention_mask", "positive_mask")
        a = self._vector(model, tensor(batch, "input_ids"), masks.get("attention_mask"))
        b = self._vector(model, tensor(batch, "positive_ids"), masks.get("positive_mask"))
        return info_nce(a, b, temperature=self.temperature)

    def _vector(self, model: nn.Module, ids: Tensor, mask: Tensor | None) -> Float[Tensor, "B C"]:
        hidden = model(ids, attention_mask=mask).last_hidden_state  # [B, T, C]
        return pool(hidden, mask, pooling=self.pooling)
