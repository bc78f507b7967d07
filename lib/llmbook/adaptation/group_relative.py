r"""Rewards and a leash: the policy gradient, with a price on leaving the model one started from.

With r = log π_ref − log π for each written token, the price is the estimate

$$\widehat{\mathrm{KL}} = e^{r} - r - 1 \ge 0$$

of KL(π ‖ π_ref), whose mean over tokens drawn from π is exactly that (http://joschu.net/blog/kl-approx.html). This is
the objective of GRPO (https://arxiv.org/abs/2402.03300, §4.1) for the case that every text is used for one update: the
ratio of new to old probabilities, which the paper clips, is then 1. The mean of its *gradient* is not the gradient of
the KL, but that of KL(π_ref ‖ π); a small step takes both down.
"""

import torch
from torch import nn

from llmbook.adaptation.reference import reading
from llmbook.training.objectives import Batch, Loss, advantages_of, causal_nll


class GRPOLoss:
    """An objective: Σ (−A log π + β KL) over the targets; batches are those of ``policy_gradient_loss``.

    Args:
        beta: the price of leaving the reference, in reward for a nat a token.
        reference: the frozen model π_ref, such as a copy from before. None: the model without its LoRA.

    Raises:
        ValueError: ``beta`` is not positive (at 0 it is ``policy_gradient_loss``); at the first call, if there is
            neither reference nor LoRA, and where ``policy_gradient_loss`` does.
    """

    def __init__(self, *, beta: float, reference: nn.Module | None = None):
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta={beta}: must be positive and finite; at 0 use policy_gradient_loss")
        self.beta, self.reference = beta, reference

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        advantages = advantages_of(batch)
        nats, scored = causal_nll(model, batch)  # [B, T], -log π
        with reading(self.reference, model) as reference, torch.no_grad():
            before, _ = causal_nll(reference, batch)
        r = nats - before
        price = torch.expm1(r) - r  # 0 where nothing is scored
        return Loss((advantages[:, None].to(nats) * nats + self.beta * price).sum(), scored.sum())
