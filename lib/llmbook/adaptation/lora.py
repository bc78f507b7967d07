r"""LoRA: leave a matrix as it is and learn a low-rank correction beside it (https://arxiv.org/abs/2106.09685).

$$y = W x + b + \frac{\alpha}{r}\, B A\, x, \qquad A \in \mathbb{R}^{r \times in},\; B \in \mathbb{R}^{out \times r}$$

The choice this file makes: the layer itself, of whatever kind, stays whole inside ``LoRALinear`` under the name
``base``. So it may be quantised (QLoRA, https://arxiv.org/abs/2305.14314), its weights are found under a predictable
name, and undoing is putting it back. B starts at zero, so the model starts as it was, bit for bit. For the scaling of
rsLoRA (https://arxiv.org/abs/2312.03732), which does not fade as r grows, give ``lora_alpha = alpha * r ** 0.5``.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.adaptation.freeze import freeze, unfreeze
from llmbook.adaptation.targets import device_and_dtype, find_targets, linear_sizes
from llmbook.model.parts import replace_part


class LoRALinear(nn.Module):
    """A frozen linear layer ``base`` and its correction; see ``add_lora``.

    ``base`` may be any module with ``in_features`` and ``out_features``. While ``merged``, the correction is part of
    the base's weight; the state dict holds the weight without it all the same. While not ``enabled``, the layer
    computes what ``base`` alone would. Raises ValueError for an ``r`` that is no whole number from 1, a ``lora_alpha``
    that is not positive and finite, and a ``lora_dropout`` outside [0, 1).
    """

    def __init__(self, base: nn.Module, *, r: int, lora_alpha: float, lora_dropout: float = 0.0):
        super().__init__()
        if not isinstance(r, int) or r < 1:
            raise ValueError(f"r={r!r}: the rank of the correction must be a whole number of at least 1")
        if not 0 < lora_alpha < math.inf:
            raise ValueError(f"lora_alpha={lora_alpha}: must be positive, or it would count nothing, and finite")
        if not 0 <= lora_dropout < 1:
            raise ValueError(f"lora_dropout={lora_dropout} is not a probability below 1")
        self.base = base
        self.in_features, self.out_features = linear_sizes(base)
        self.r, self.lora_alpha, self.scaling = r, lora_alpha, lora_alpha / r
        self.dropout = nn.Dropout(lora_dropout)
        place = device_and_dtype(base)
        self.lora_A = nn.Parameter(torch.empty(r, self.in_features, **place))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, r, **place))
        nn.init.normal_(self.lora_A, std=self.in_features**-0.5)  # A x is then of the size of x
        self.enabled = True
        self._original: tuple[nn.Parameter, ...] = ()  # the base's weight while merged; a tuple hides it from torch
        self.register_state_dict_post_hook(_save_unmerged)
        self.register_load_state_dict_pre_hook(_require_unmerged)

    @property
    def merged(self) -> bool:
        return bool(self._original)

    def forward(self, x: Float[Tensor, "*P In"]) -> Float[Tensor, "*P Out"]:
        y = self.base(x)
        if self.merged or not self.enabled:
            return y
        low = F.linear(self.dropout(x).to(self.lora_A.dtype), self.lora_A)  # [*P, r]
        return y + (self.scaling * F.linear(low, self.lora_B)).to(y.dtype)

    def base_weight(self) -> nn.Parameter:
        """The W a correction can be added to. Raises ValueError if the base has none."""
        weight = getattr(self.base, "weight", None)
        if not isinstance(weight, nn.Parameter):
            raise ValueError(
                f"{type(self.base).__name__} has no weight of its own (it is quantised, or a layer inside has it): a "
                "correction cannot be merged into it; keep it beside the layer, or merge into the floating-point model"
            )
        return weight

    @torch.no_grad()
    def merge(self) -> None:
        """W + α/r · B A in place of W. The original is set aside, since adding and subtracting would not give it back
        bit for bit; and a new tensor takes its place, since W may be tied to one used elsewhere."""
        if self.merged:
            return
        weight = self.base_weight()
        exact = torch.promote_types(weight.dtype, torch.float32)  # a half-precision weight is rounded once, at the end
        correction = self.scaling * (self.lora_B.to(exact) @ self.lora_A.to(exact))  # [out, in]
        self.base.weight = nn.Parameter((weight.to(exact) + correction).to(weight.dtype), requires_grad=False)
        self._original = (weight,)

    @torch.no_grad()
    def unmerge(self) -> None:
        if self.merged:
            (weight,) = self._original
            weight.data = weight.data.to(self.base.get_parameter("weight"))  # the model may have moved meanwhile
            self.base.weight, self._original = weight, ()

    def extra_repr(self) -> str:
        return f"r={self.r}, lora_alpha={self.lora_alpha}, merged={self.merged}"


def _save_unmerged(layer: LoRALinear, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A state dict cannot say that its weight is merged, and the correction would be added twice when it is loaded: so
    it holds the weight from before."""
    if layer.merged:
        state[f"{prefix}base.weight"] = layer._original[0].detach().to(layer.base.get_parameter("weight"))


def _require_unmerged(layer: LoRALinear, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    if layer.merged and f"{prefix}base.weight" in state:
        raise ValueError(
            f"{prefix.rstrip('.') or 'the layer'} is merged: unmerge(model) before loading weights into it"
        )


def add_lora(
    model: nn.Module,
    *,
    r: int = 8,
    lora_alpha: float = 16,
    target_modules: str | Sequence[str] = ("q_proj", "v_proj"),
    lora_dropout: float = 0.0,
) -> None:
    """Freeze ``model`` and put a ``LoRALinear`` in place of every layer named by ``target_modules``.

    Only the new matrices train; ``unfreeze`` adds what else should. The paper adapts the query and value projections.

    Args:
        r: the rank of each correction.
        lora_alpha: the correction is scaled by ``lora_alpha / r``, so that r can change without a new learning rate.
        target_modules: the end of their dotted names, as ``"q_proj"`` or ``"blocks.[0-3].attention.*"``.
        lora_dropout: probability with which an input of the correction is dropped in training.

    Raises:
        ValueError: a target names no linear layer, none is named, or the model has LoRA already; then the model is as
            it was.
    """
    if any(isinstance(part, LoRALinear) for part in model.modules()):
        raise ValueError("the model has LoRA already; remove_lora(model) first")
    made = {
        name: LoRALinear(layer, r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout)
        for name, layer in find_targets(model, target_modules).items()
    }
    freeze(model)
    for name, layer in made.items():
        replace_part(model, name, layer)


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers with LoRA, by dotted name. Raises ValueError if there are none."""
    layers = {name: part for name, part in model.named_modules() if isinstance(part, LoRALinear)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no LoRA; add_lora(model, ...) first")
    return layers


def merge(model: nn.Module) -> None:
    """Write every correction into its layer's weight: the same outputs for the price of the plain model.

    A merged layer does not learn, and a merged output matrix is no longer tied to the token table. Merging twice is
    merging once.

    Raises:
        ValueError: there is no LoRA, or a layer stores its weight quantised; then nothing is merged.
    """
    layers = lora_layers(model).values()
    for layer in layers:
        layer.base_weight()
    for layer in layers:
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo ``merge``: the very weights from before."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def remove_lora(model: nn.Module) -> None:
    """Put the layers back as they are now: with their corrections if merged, else without.

    ``merge(model); remove_lora(model)`` gives a plain model to ship. Everything trains again.
    """
    for name, layer in lora_layers(model).items():
        replace_part(model, name, layer.base)
    unfreeze(model)


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes what it did before it was adapted.

    Raises:
        ValueError: a correction is merged, so that it cannot be left out.
    """
    layers = list(lora_layers(model).values())
    if any(layer.merged for layer in layers):
        raise ValueError("LoRA is merged into the weights; unmerge(model) first")
    before = [layer.enabled for layer in layers]
    try:
        for layer in layers:
            layer.enabled = False
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled
