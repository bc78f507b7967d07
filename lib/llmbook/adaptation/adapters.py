r"""Bottleneck adapters: a small network behind each sublayer (https://arxiv.org/abs/1902.00751).

    x ── attention ── o_proj ── adapter ──(+ x)── … ── feed-forward ── down_proj ── adapter ──(+ x)──

$$\mathrm{adapter}(h) = h + W_{up}\,\sigma(W_{down}\,h), \qquad W_{down}: C \to m,\; W_{up}: m \to C$$

It reads what a sublayer is about to add to the residual stream and corrects it. W_up starts at zero, so the model
starts as it was, bit for bit. Unlike LoRA's, its correction is not linear and cannot be merged away: it costs time at
every token. The paper trains the norms along: ``unfreeze(model, "*_norm")``.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.adaptation.freeze import freeze, unfreeze
from llmbook.adaptation.targets import device_and_dtype, find_targets, linear_sizes
from llmbook.model.initialise import STREAM_WRITERS
from llmbook.model.parts import replace_part


class Adapter(nn.Module):
    """h + W_up GELU(W_down h): C numbers squeezed through ``bottleneck``, added to themselves.

    Raises ValueError for a ``bottleneck`` below 1.
    """

    def __init__(self, d_model: int, *, bottleneck: int, device=None, dtype=None):
        super().__init__()
        if bottleneck < 1:
            raise ValueError(f"bottleneck={bottleneck}: must be at least 1")
        self.down_proj = nn.Linear(d_model, bottleneck, device=device, dtype=dtype)
        self.up_proj = nn.Linear(bottleneck, d_model, device=device, dtype=dtype)
        nn.init.zeros_(self.up_proj.weight)
        nn.init.zeros_(self.up_proj.bias)

    def forward(self, h: Float[Tensor, "*P C"]) -> Float[Tensor, "*P C"]:
        correction = self.up_proj(F.gelu(self.down_proj(h.to(self.down_proj.weight.dtype))))
        return h + correction.to(h.dtype)


class AdaptedLinear(nn.Module):
    """The last projection of a sublayer, ``base``, and the adapter behind it."""

    def __init__(self, base: nn.Module, *, bottleneck: int):
        super().__init__()
        self.base = base
        self.in_features, self.out_features = linear_sizes(base)
        self.adapter = Adapter(self.out_features, bottleneck=bottleneck, **device_and_dtype(base))

    def forward(self, x: Float[Tensor, "*P In"]) -> Float[Tensor, "*P Out"]:
        return self.adapter(self.base(x))


def add_adapters(
    model: nn.Module, *, bottleneck: int = 16, target_modules: str | Sequence[str] = STREAM_WRITERS
) -> None:
    """Freeze ``model`` and put an adapter behind every attention and feed-forward sublayer; only adapters train.

    ``target_modules`` are the layers that write into the residual stream, and may be any, quantised ones too.

    Raises:
        ValueError: a target names no linear layer, or the model has adapters already; then it is as it was.
    """
    if any(isinstance(part, AdaptedLinear) for part in model.modules()):
        raise ValueError("the model has adapters already; remove_adapters(model) first")
    made = {
        name: AdaptedLinear(layer, bottleneck=bottleneck) for name, layer in find_targets(model, target_modules).items()
    }
    freeze(model)
    for name, layer in made.items():
        replace_part(model, name, layer)


def remove_adapters(model: nn.Module) -> None:
    """The model from before, all of it trainable again. Raises ValueError if it has no adapters."""
    adapted = {name: part for name, part in model.named_modules() if isinstance(part, AdaptedLinear)}
    if not adapted:
        raise ValueError(f"{type(model).__name__} has no adapters; add_adapters(model, ...) first")
    for name, layer in adapted.items():
        replace_part(model, name, layer.base)
    unfreeze(model)
