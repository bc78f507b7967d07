"""AdamW with sensible parameter groups, and a learning rate that is a pure function of the step.

AdamW (https://arxiv.org/abs/1711.05101) shrinks weights apart from the gradient step. Our choice of what is
shrunk: every trainable tensor with two or more dimensions, that is matrices and embedding tables (the token
table is often tied to the output matrix, so it is treated as one). Norm gains and biases are not: pulling a
gain of 1 towards 0 changes what the layer computes, and there are too few of them to overfit.

The schedules have no state. Step n has one learning rate, whether the run was ever interrupted or not.
"""

import math

import torch
from torch import nn

DECAY_SHARE = 0.65  # of the steps on which the trapezoid goes down


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What training adjusts: tied parameters once, frozen ones not. Raises ValueError if nothing is left."""
    trainable = [p for p in model.parameters() if p.requires_grad]  # .parameters() lists a tied tensor once
    if not trainable:
        raise ValueError(f"{type(model).__name__} has no trainable parameter: is requires_grad off everywhere?")
    return trainable


def decay_groups(params: list[nn.Parameter], *, weight_decay: float) -> list[dict]:
    """Two groups for an optimiser: tensors of two or more dimensions decay, the others do not."""
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict]:
    """``decay_groups`` of all trainable parameters of ``model``. Raises ValueError if there are none."""
    return decay_groups(trainable_parameters(model), weight_decay=weight_decay)


def adamw(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW over ``parameter_groups(model)``, fused into one kernel where torch has one.

    β₂ is 0.95, not Adam's 0.999, as in GPT-3 (https://arxiv.org/abs/2005.14165): it forgets a spike sooner.
    Create it after the model is on its device.
    """
    groups = parameter_groups(model, weight_decay=weight_decay)
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)


def cosine_schedule(step: int, *, steps: int, lr: float, warmup_steps: int = 0, min_lr_ratio: float = 0.1) -> float:
    """The learning rate of update number ``step``, counted from 1 to ``steps``.

    A straight line up to ``lr``, reached at ``step = warmup_steps``; then half a cosine
    (https://arxiv.org/abs/1608.03983) down to ``min_lr_ratio * lr``, reached at ``step = steps``.
    """
    if step < warmup_steps:
        return lr * step / warmup_steps
    if step >= steps:
        return lr * min_lr_ratio
    progress = (step - warmup_steps) / (steps - warmup_steps)  # 0 at the peak, 1 at the end
    cosine = 0.5 * (1 + math.cos(math.pi * progress))  # 1 → 0
    return lr * (min_lr_ratio + (1 - min_lr_ratio) * cosine)


def trapezoid_schedule(step: int, *, steps: int, lr: float, warmup_steps: int = 0, min_lr_ratio: float = 0.1) -> float:
    """As ``cosine_schedule``, but ``lr`` is kept up until the last ``DECAY_SHARE`` of the steps, a straight line down.

    While the rate is at its height nothing has to know when the run will end, and a run that is to go on needs no new
    beginning (https://arxiv.org/abs/2405.18392).
    """
    climbed = step / warmup_steps if warmup_steps else 1.0
    left = max(0, steps - step) / (DECAY_SHARE * steps)  # of the line down; above 1 before it begins
    return lr * min(1.0, climbed, min_lr_ratio + (1 - min_lr_ratio) * left)


SCHEDULES = {"cosine": cosine_schedule, "trapezoid": trapezoid_schedule}
