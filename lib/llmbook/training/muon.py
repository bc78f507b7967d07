r"""Muon: a step of the same size in every direction of a matrix (https://kellerjordan.github.io/posts/muon/).

The gradient of a weight matrix, averaged over steps, is dominated by a few directions: a few of its singular values
are far larger than the rest. Muon keeps its directions and makes their sizes equal. From the singular value
decomposition $M = U S V^\top$ of the averaged gradient it steps along $U V^\top$, the nearest matrix whose singular
values are all 1. A decomposition is slow; an odd polynomial applied five times needs products of matrices alone:

$$X \leftarrow aX + b\,(XX^\top)X + c\,(XX^\top)^2X \qquad (a, b, c) = (3.4445,\ -4.7750,\ 2.0315)$$

It works on each singular value by itself, $s \leftarrow as + bs^3 + cs^5$, and these coefficients lift small ones as
fast as possible: all but the smallest end between 0.7 and 1.2, which is equal enough.

This makes sense for matrices that turn one hidden vector into another, and does well on the few rows of a short
convolution. Token and position tables (a row is a vector
for itself), the output projection, gains and biases are left to AdamW, in the same optimiser.
"""

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adamw import adamw as adamw_step

from llmbook.training.optim import decay_groups, trainable_parameters
from llmbook.training.runtime import sixteen_bits

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(
    x: Float[Tensor, "*N R K"], *, steps: int = 5, dtype: torch.dtype | None = None
) -> Float[Tensor, "*N R K"]:
    """Every matrix with its singular values brought close to 1, by ``steps`` Newton–Schulz iterations.

    Leading axes are independent matrices, worked on together. ``dtype`` is the precision of the products; by default
    the 16 bits that a GPU multiplies fast, for the iteration forgives rounding, and elsewhere that of ``x``.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    y = x.flatten(0, -3) if x.ndim > 2 else x[None]  # [N, R, K]
    dtype = dtype or (sixteen_bits(x.device) if x.is_cuda else x.dtype)
    y = y.to(x.dtype if dtype == torch.float16 else dtype)  # float16 ends at 6e-8, where gradients may begin
    if tall:
        y = y.mT  # Y Yᵀ is then the smaller of the two squares
    y = y / y.norm(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(y.dtype).tiny)  # no singular value above 1
    y = y.to(dtype)
    for _ in range(steps):
        square = y @ y.mT  # [N, R, R]
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b YYᵀ + c (YYᵀ)²
        y = torch.baddbmm(y, polynomial, y, beta=a)  # a Y + (b YYᵀ + c (YYᵀ)²) Y
    return (y.mT if tall else y).to(x.dtype).reshape(x.shape)


class Muon(torch.optim.Optimizer):
    """One optimiser with two methods: each group of parameters has its "method", "muon" or "adamw", and its options.

    A muon group has lr, weight_decay and momentum; an adamw group lr, weight_decay, betas and eps. Made by ``muon``.
    ``product_dtype``, which a Trainer sets to that of a run in 16 bits, is the precision ``orthogonalise`` multiplies
    in. Raises ValueError for a muon group with a parameter that is no matrix.

    A ``torch.amp.GradScaler`` need not wait for the device: it leaves in ``found_inf`` whether a gradient overflowed,
    and the step is then taken without moving anything.
    """

    _step_supports_amp_scaling = True  # asked for by GradScaler.step

    product_dtype: torch.dtype | None = None

    def __init__(self, groups: list[dict]):
        super().__init__(groups, defaults={})
        for p in (p for group in self.param_groups if group["method"] == "muon" for p in group["params"]):
            if p.ndim != 2:
                raise ValueError(f"Muon steps along matrices; a parameter of shape {tuple(p.shape)} is for AdamW")

    @torch.no_grad()
    def step(self, closure=None):
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                if group["method"] == "muon":
                    self._muon_step(group, params)
                else:
                    self._adamw_step(group, params)
        return loss

    def _muon_step(self, group: dict, params: list[Tensor]) -> None:
        lr, momentum, overflowed = group["lr"], group["momentum"], getattr(self, "found_inf", None)
        grads = [_gradient(p) for p in params]
        averages = self._states(params, "momentum")
        kept = 1.0 - lr * group["weight_decay"]
        if overflowed is not None:  # 1.0 if so, on the device: then the average stays and nothing is added
            grads = [torch.where(overflowed > 0, average, grad) for average, grad in zip(averages, grads, strict=True)]
            kept = torch.where(overflowed > 0, 1.0, kept)
        torch._foreach_lerp_(averages, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, averages, momentum)  # Nesterov: the average after one more such gradient
        torch._foreach_mul_(params, kept)
        same_shape = defaultdict(list)
        for p, update in zip(params, ahead, strict=True):
            same_shape[p.shape].append((p, update))
        for (rows, columns), members in same_shape.items():  # one product for all matrices of a shape
            matrices, updates = zip(*members, strict=True)
            directions = orthogonalise(torch.stack(updates), dtype=self.product_dtype)
            if overflowed is not None:
                directions = directions * (overflowed == 0)
            # A tall matrix has as many singular values as columns but more rows to share them: give each its due.
            torch._foreach_add_(matrices, directions.unbind(), alpha=-lr * max(1, rows / columns) ** 0.5)

    def _adamw_step(self, group: dict, params: list[Tensor]) -> None:
        for p in params:
            if "step" not in self.state[p]:
                self.state[p]["step"] = torch.zeros((), device=p.device if group["fused"] else "cpu")
        adamw_step(
            params, [_gradient(p) for p in params],
            self._states(params, "exp_avg"), self._states(params, "exp_avg_sq"), [],
            [self.state[p]["step"] for p in params], fused=group["fused"],
            beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"], eps=group["eps"],
            weight_decay=group["weight_decay"], amsgrad=False, maximize=False,
            found_inf=getattr(self, "found_inf", None),
        )  # fmt: skip

    def _states(self, params: list[Tensor], name: str) -> list[Tensor]:
        """What the optimiser remembers of each parameter under ``name``; zeros at first."""
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in params]


def muon(
    model: nn.Module,
    *,
    muon_lr: float = 0.02,
    lr: float,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> Muon:
    """Muon with ``muon_lr`` for the matrices of the model's blocks, AdamW with ``lr`` for everything else.

    ``muon_lr`` is about how far a step can move what a square matrix makes of a vector of length 1, whatever the width
    and however large the gradient. Frozen parameters are left out. Create it after the model is on its device. Raises
    ValueError if no block has a trainable matrix.
    """
    trainable = trainable_parameters(model)
    inside_blocks = {p for name, p in model.named_parameters() if "blocks" in name.split(".")}
    matrices = [p for p in trainable if p.ndim == 2 and p in inside_blocks]
    if not matrices:
        raise ValueError(f"{type(model).__name__} has no trainable matrix in blocks: use optimizer='adamw'")
    chosen = set(matrices)
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable)
    rest = decay_groups([p for p in trainable if p not in chosen], weight_decay=weight_decay)
    return Muon(
        [
            {"params": matrices, "method": "muon", "lr": muon_lr, "weight_decay": weight_decay, "momentum": momentum},
            *({**group, "method": "adamw", "lr": lr, "betas": betas, "eps": eps, "fused": fused} for group in rest),
        ]
    )


def _gradient(p: Tensor) -> Tensor:
    assert p.grad is not None  # step() takes parameters that have one
    return p.grad
