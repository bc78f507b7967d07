"""Weights set to zero: by magnitude, and held at zero while the rest is trained on.

The smallest weights change the output least, so they go first (https://arxiv.org/abs/1506.02626); training then repairs
what was lost, as long as every optimiser step is followed by the mask again. ``scope="global"`` compares all weights of
the model, ``scope="layer"`` those of one layer, each of which then loses the same share. Zeros anywhere save memory
only in a sparse format; the 2:4 pattern, two zeros in every four neighbours, is one that hardware can skip
(https://arxiv.org/abs/2104.08378). Removing whole heads and channels makes the matrices smaller: see ``structured.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.compression.by_name import linear_layers
from llmbook.training import Callback, RunState


@dataclass(frozen=True)
class Masks:
    """Which weights stay, by the parameter's dotted name; True = stays."""

    kept: dict[str, Bool[Tensor, "N K"]]

    @torch.no_grad()
    def apply_to(self, model: nn.Module) -> None:
        """Set what does not stay to exactly 0, in place."""
        for name, kept in self.kept.items():
            weight = model.get_parameter(name)
            weight.mul_(kept.to(weight.device))

    @property
    def sparsity(self) -> float:
        """The share of zeros among the weights the masks cover."""
        return 1 - sum(int(kept.sum()) for kept in self.kept.values()) / sum(map(torch.numel, self.kept.values()))


def prune_by_magnitude(
    model: nn.Module,
    *,
    sparsity: float,
    scope: Literal["global", "layer"] = "global",
    skip: str | Sequence[str] = ("lm_head",),
) -> Masks:
    """Zero the share ``sparsity`` of the linear layers' weights that is smallest in magnitude; return the masks.

    skip: layers, or parts with layers, that stay whole: by default the head, which may be the token table.
    Raises ValueError when an option is out of range or a name is none of the model's; nothing is then changed.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity={sparsity}: give the share of weights to remove, from 0 to below 1")
    if scope not in ("global", "layer"):
        raise ValueError(f"scope={scope!r} is not one of 'global', 'layer'")
    weights = _weights(model, skip)
    if scope == "layer":
        kept = {name: largest(weight, sparsity) for name, weight in weights.items()}
    else:
        everything = torch.cat([weight.flatten() for weight in weights.values()])
        pieces = largest(everything, sparsity).split([weight.numel() for weight in weights.values()])
        kept = {name: piece.view_as(weights[name]) for name, piece in zip(weights, pieces, strict=True)}
    return _apply(model, kept)


def prune_two_of_four(model: nn.Module, *, skip: str | Sequence[str] = ("lm_head",)) -> Masks:
    """Zero the two smaller of every four neighbouring weights of a row, in every linear layer; return the masks.

    Raises ValueError for a row that does not divide by 4 or a wrong name in ``skip``; nothing is then changed.
    """
    return _apply(model, {name: two_of_four(weight) for name, weight in _weights(model, skip).items()})


def largest(weight: Float[Tensor, "*N"], sparsity: float) -> Bool[Tensor, "*N"]:
    """True on all but the round(sparsity · n) numbers smallest in magnitude."""
    n_zero = round(sparsity * weight.numel())
    zero = weight.abs().flatten().topk(n_zero, largest=False).indices
    kept = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    kept[zero] = False
    return kept.view(weight.shape)


def two_of_four(weight: Float[Tensor, "N K"]) -> Bool[Tensor, "N K"]:
    """True on the two larger in magnitude of every four neighbours in a row.

    Raises ValueError for rows that do not divide by 4.
    """
    if weight.shape[1] % 4:
        raise ValueError(f"rows of {weight.shape[1]} weights do not divide into fours")
    fours = weight.abs().unflatten(1, (-1, 4))  # [N, K / 4, 4]
    kept = torch.zeros_like(fours, dtype=torch.bool)
    return kept.scatter(2, fours.topk(2, dim=2).indices, True).flatten(1)


class HoldMasks(Callback):
    """Keep pruned weights at zero during training: the masks are applied after every optimiser step.

    Without this, the first step moves every weight, momentum even those without a gradient.
    """

    def __init__(self, masks: Masks):
        self.masks = masks
        self._hook: torch.utils.hooks.RemovableHandle | None = None

    def on_start(self, run: RunState) -> None:
        self.on_end(run)  # an earlier run may have been broken off
        self.masks.apply_to(run.model)
        self._hook = run.optimizer.register_step_post_hook(lambda *_: self.masks.apply_to(run.model))

    def on_end(self, run: RunState) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _apply(model: nn.Module, kept: dict[str, Tensor]) -> Masks:
    masks = Masks(kept)
    masks.apply_to(model)
    return masks


def _weights(model: nn.Module, skip: str | Sequence[str]) -> dict[str, Tensor]:
    return {f"{name}.weight": layer.weight.detach() for name, layer in linear_layers(model, skip).items()}
