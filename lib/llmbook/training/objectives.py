"""What is minimised: an objective reads a batch and returns summed nats with the number of targets.

An objective is any ``objective(model, batch) -> Loss``. It returns a *sum* and a *count*, never a mean: means
of micro-batches with different numbers of targets do not add up to the mean of the whole batch, sums and
counts do. The training step divides once, at the end.

The shift is owned here, and nowhere else: the model returns logits at every position, and the logits at
position t are scored against the token at t + 1.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

IGNORE = -100  # a label with this value is not a target; the value torch and transformers use

Batch = Mapping[str, Tensor]


class Loss(NamedTuple):
    """The sum of the negative log-likelihoods in nats, and over how many target tokens it runs."""

    total: Float[Tensor, ""]
    n_targets: Int[Tensor, ""]


Objective = Callable[[nn.Module, Batch], Loss]


def causal_lm_loss(model: nn.Module, batch: Batch) -> Loss:
    """Predict every token from those before it: −Σ log p(token at t+1 | tokens up to t), in nats.

    ``batch["input_ids"]`` is [B, T+1]: the first T are read, the last T are predicted. Optional, of the same
    shape: ``labels`` (what to predict, −100 where nothing is scored; by default the input itself) and
    ``attention_mask`` (True or 1 for real tokens). Raises ValueError when shapes do not fit.
    """
    nats, scored = token_nats(model, batch)
    return Loss(nats.sum(), scored.sum())


def token_nats(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The negative log-likelihood of every token, in nats, and which of them are targets (0 where not)."""
    ids = batch["input_ids"]  # B T+1
    labels = batch.get("labels", ids)
    mask = batch.get("attention_mask")
    _check_shapes(ids, labels, mask)
    targets = labels[:, 1:]  # B T
    if mask is not None:
        # Both ends must be real: a first token after left padding would be predicted from nothing.
        real = mask.bool()
        targets = targets.masked_fill(~(real[:, 1:] & real[:, :-1]), IGNORE)
        mask = mask[:, :-1]
    logits = model(ids[:, :-1], attention_mask=mask).logits  # B T V
    nats = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return nats.view(targets.shape), targets != IGNORE


def _check_shapes(ids: Tensor, labels: Tensor, mask: Tensor | None) -> None:
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ValueError(
            f"input_ids has shape {tuple(ids.shape)}: expected [batch, tokens] with at least 2 tokens, "
            "because the last T tokens are predicted from the first T"
        )
    for name, other in (("labels", labels), ("attention_mask", mask)):
        if other is not None and other.shape != ids.shape:
            raise ValueError(
                f"{name} has shape {tuple(other.shape)} but input_ids {tuple(ids.shape)}: give both the same "
                "shape; the objective does the shift by one itself"
            )
