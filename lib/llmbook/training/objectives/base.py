"""What every objective is: a function of a model and a batch that returns a sum and a count.

A *sum* and a *count*, never a mean: means of micro-batches with different numbers of targets do not add up to the
mean of the whole batch, sums and counts do. The training step divides once, at the end.

Nothing here draws a random number. What is hidden, moved or replaced has been decided when the batch was made
(``llmbook.text``), so the same batch has the same loss, and a run that is resumed sees the same batches.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.text.labels import IGNORE

# Tensors by name. A mixture of tasks (``MixedBatches``) adds the name of the task, a string, under "task".
Batch = Mapping[str, Tensor | str]


class Loss(NamedTuple):
    """The sum of the negative log-likelihoods in nats, and over how many targets it runs."""

    total: Float[Tensor, ""]
    n_targets: Int[Tensor, ""]


Objective = Callable[[nn.Module, Batch], Loss]


def token_nll(logits: Float[Tensor, "*P V"], targets: Int[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """−log p(target) at every place, in nats and float32; 0 where the target is −100."""
    each = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return each.view(targets.shape)


def summed(logits: Float[Tensor, "*P V"], targets: Int[Tensor, "*P"]) -> Loss:
    """The loss of logits that stand at the place of their target."""
    return Loss(token_nll(logits, targets).sum(), (targets != IGNORE).sum())


def required(batch: Batch, name: str, added_by: str) -> Tensor:
    """``batch[name]``. Raises ValueError if it is not there, saying what adds it."""
    if name not in batch:
        raise ValueError(f"the batch has {', '.join(batch)} and no {name}, which {added_by} adds")
    return tensor(batch, name)


def tensor(batch: Batch, name: str) -> Tensor:
    """``batch[name]``. Raises ValueError where it is no tensor."""
    value = batch[name]
    if not isinstance(value, Tensor):
        raise ValueError(f"the batch's {name} is {value!r}: expected a tensor")
    return value


def same_shape(batch: Batch, name: str, other: str) -> None:
    """Raise ValueError if ``batch[other]`` is not as large as ``batch[name]``."""
    mine, theirs = (tuple(tensor(batch, each).shape) for each in (other, name))
    if mine != theirs:
        raise ValueError(f"{other} has shape {mine} but {name} {theirs}: give both the same shape")


def optional(batch: Batch, *names: str) -> dict[str, Tensor]:
    """Those of the named inputs that the batch has, to be handed to a model."""
    return {name: tensor(batch, name) for name in names if name in batch}
