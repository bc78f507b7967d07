r"""From which tokens a vector comes, through all layers: attention rollout (https://arxiv.org/abs/2005.00928).

A layer passes on half of what it got (the residual path) and half of what its heads read, averaged:

$$\tilde A_\ell = \tfrac12 I + \tfrac12 \bar A_\ell \qquad
  R_\ell = \tilde A_\ell\, \tilde A_{\ell-1} \cdots \tilde A_1$$

Row i of R_ℓ is the sum, over all paths down to the input, of the product of the weights on the way: how much of each
token is in position i after layer ℓ, if attention were all that mattered. It leaves out values, norms and the
feed-forward nets.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def attention_rollout(attentions: Sequence[Float[Tensor, "B H T S"]]) -> Float[Tensor, "L B T T"]:
    """R after each layer; rows are queries, columns input tokens, and every row sums to 1.

    Raises:
        ValueError: queries and keys are not the same positions (a run with a cache, or with a prefix).
    """
    rollouts: list[Tensor] = []
    for weights in attentions:
        residual = torch.eye(weights.shape[-1], device=weights.device)
        mixed = 0.5 * residual + 0.5 * square(weights).mean(1)  # [B, T, T]
        mixed = mixed / mixed.sum(-1, keepdim=True)  # a query that reads nothing keeps itself
        rollouts.append(mixed @ rollouts[-1] if rollouts else mixed)
    return torch.stack(rollouts)


def square(weights: Float[Tensor, "B H T S"]) -> Float[Tensor, "B H T T"]:
    """The weights themselves. Raises ValueError if queries and keys are not the same positions."""
    n_queries, n_keys = weights.shape[-2:]
    if n_queries != n_keys:
        raise ValueError(
            f"{n_queries} queries read {n_keys} keys: run the model without a cache, and without a learned prefix"
        )
    return weights
