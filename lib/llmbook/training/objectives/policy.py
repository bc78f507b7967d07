r"""Learn from rewards for texts that the model wrote itself.

$$\nabla J = \mathbb{E}\Big[\sum_t A\;\nabla \log p(x_t \mid x_{<t})\Big]$$

A text with a positive advantage A becomes likelier, one with a negative advantage less likely (REINFORCE,
https://doi.org/10.1007/BF00992696). Writing the texts and judging them is the business of the batches
(``training.rollouts``): an iterator that holds the model, samples from it and says what each text was worth. Nothing in
the loop has to know.
"""

from jaxtyping import Float
from torch import Tensor, nn

from llmbook.training.objectives.base import Batch, Loss, required
from llmbook.training.objectives.causal import causal_nll


def group_advantages(rewards: Float[Tensor, "N G"], *, scale: bool = True, eps: float = 1e-4) -> Float[Tensor, "N G"]:
    r"""What each of the G answers to a prompt was worth beside the others (GRPO, https://arxiv.org/abs/2402.03300).

    $$A_i = \frac{r_i - \bar r}{s + \epsilon}$$

    with mean $\bar r$ and standard deviation s (divisor G - 1) of the group's rewards; without ``scale`` the
    numerator alone. All answers equally good or bad: all advantages 0. Raises ValueError for groups of fewer than two.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards have shape {tuple(rewards.shape)}: give [N, G], with groups of at least two answers")
    above = rewards - rewards.mean(1, keepdim=True)
    return above / (rewards.std(1, keepdim=True) + eps) if scale else above


def policy_gradient_loss(model: nn.Module, batch: Batch) -> Loss:
    """The sum of A · −log p over all targets, whose gradient is the policy gradient; it may be negative.

    ``batch["advantages"]`` [B] is what each row was worth, above or below what was to be expected; the rest is the
    batch of ``causal_lm_loss``, with ``labels`` of −100 at the prompt, which the model did not write. Raises ValueError
    without advantages, or when shapes do not fit.
    """
    advantages = advantages_of(batch)
    each, scored = causal_nll(model, batch)
    return Loss((each * advantages[:, None].to(each)).sum(), scored.sum())


def advantages_of(batch: Batch) -> Float[Tensor, "B"]:
    """``batch["advantages"]``. Raises ValueError if they are missing, or not one for each text."""
    advantages = required(batch, "advantages", "the batches that judge the texts")
    if advantages.shape != batch["input_ids"].shape[:1]:
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)} for {len(batch['input_ids'])} texts: one number each"
        )
    return advantages
