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

    "All" means of every micro-batch and of every process, however unequal their numbers are. Where there is none at
    all, nothing moves on a CPU; on a GPU, which would have to be waited for to know, momentum and decay go on.
    """
    total, n_targets = torch.zeros((), device=runtime.device), torch.zeros((), dtype=torch.long, device=runtime.device)
    for i, batch in enumerate(micro_batches, start=1):
        with parallel.micro_batch(last=i == len(micro_batches)):
            with runtime.autocast():
                loss = objective(model, batch)
            scaler.scale(loss.total).backward()  # gradients of sums add up in p.grad
        total = total + loss.total.detach()
        n_targets = n_targets + loss.n_targets
    total, n_targets = parallel.sum(total, n_targets)
    some = n_targets.clamp(min=1)  # never 0 / 0
    if n_targets.device.type == "cpu" and n_targets == 0:
        optimizer.zero_grad()
        return StepResult(total / some, n_targets, torch.zeros(()))
    scaler.unscale_(optimizer)
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    # From gradients of sums to the gradient of the mean, clipped, in one multiplication for all parameters at once.
    # Processes have averaged their sums: multiplying by their number undoes that.
    to_mean = parallel.world_size / some
    grad_norm = parallel.whole(nn.utils.get_total_norm(grads)) * to_mean
    too_long = 1.0 if clip_norm is None else (grad_norm / clip_norm).clamp(min=1.0)
    torch._foreach_mul_(grads, to_mean / too_long)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return StepResult(total / some, n_targets, grad_norm)
