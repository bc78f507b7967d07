r"""Learn from rewards for texts that the model wrote itself.

$$\nabla J = \mathbb{E}\Big[\sum_t A\;\nabla \log p(x_t \mid x_{<t})\Big]$$

A text with a positive advantage A becomes likelier, one with a negative advantage less likely (REINFORCE,
https://doi.org/10.1007/BF00992696). Writing the texts and judging them is the business of the batches: an iterator that
holds the model, samples from it and says what each text was worth. Nothing in the loop has to know.
"""

from torch import nn

from llmbook.training.objectives.base import Batch, Loss, required
from llmbook.training.objectives.causal import causal_nll


def policy_gradient_loss(model: nn.Module, batch: Batch) -> Loss:
    """The sum of A · −log p over all targets, whose gradient is the policy gradient; it may be negative.

    ``batch["advantages"]`` [B] is what each row was worth, above or below what was to be expected; the rest is the
    batch of ``causal_lm_loss``, with ``labels`` of −100 at the prompt, which the model did not write. Raises ValueError
    without advantages, or when shapes do not fit.
    """
    advantages = required(batch, "advantages", "the batches that judge the texts")
    if advantages.shape != batch["input_ids"].shape[:1]:
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)} for {len(batch['input_ids'])} texts: one number each"
        )
    each, scored = causal_nll(model, batch)
    return Loss((each * advantages[:, None].to(each)).sum(), scored.sum())
