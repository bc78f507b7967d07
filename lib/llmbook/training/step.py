"""One optimiser step: the few lines every language model is trained with."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.training.objectives import Batch, Objective
from llmbook.training.parallel import ALONE, Parallel
from llmbook.training.runtime import Runtime


class StepResult(NamedTuple):
    """Still on the device: reading a number would make the CPU wait for the GPU every step."""

    loss: Float[Tensor, ""]  # nats per target
    n_targets: Int[Tensor, ""]
    grad_norm: Float[Tensor, ""]  # before clipping


def train_step(
    model: nn.Module,
    micro_batches: Sequence[Batch],
    *,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    runtime: Runtime,
    clip_norm: float | None,
    parallel: Parallel = ALONE,
) -> StepResult:
    """Move the weights once, along the gradient of the mean loss over all targets.

    "All" means of every micro-batch and of every process, however unequal their numbers are.
    """
    total, n_targets = 0.0, 0
    for i, batch in enumerate(micro_batches, start=1):
        with parallel.micro_batch(last=i == len(micro_batches)):
            with runtime.autocast():
                loss = objective(model, batch)
            scaler.scale(loss.total).backward()  # gradients of sums add up in p.grad
        total = total + loss.total.detach()
        n_targets = n_targets + loss.n_targets
    total, n_targets = parallel.sum(total, n_targets)
    scaler.unscale_(optimizer)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    # The gradient of the mean, for all parameters at once. Processes have averaged their sums:
    # multiplying by their number undoes that.
    torch._foreach_div_(grads, n_targets / parallel.world_size)
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm or float("inf"))
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return StepResult(total / n_targets, n_targets, parallel.whole(grad_norm))
