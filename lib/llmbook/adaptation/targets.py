"""The linear layers an adaptation is hung on.

A layer is anything that has ``in_features`` and ``out_features``: ``nn.Linear``, ours, one that stores its weight
quantised, or one that has been adapted already; what is inside such a layer is left to it. Targets are named as
``llmbook.model.parts`` says.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from llmbook.model.parts import matches


def find_targets(model: nn.Module, target_modules: str | Sequence[str]) -> dict[str, nn.Module]:
    """The layers meant, by dotted name.

    Raises:
        ValueError: no target is given, or one matches no linear layer; the last names of those there are follow.
    """
    layers: dict[str, nn.Module] = {}
    for name, part in model.named_modules():  # the outer before the inner
        if is_linear(part) and not any(name.startswith(f"{outer}.") for outer in layers):
            layers[name] = part
    found: dict[str, nn.Module] = {}
    targets = [target_modules] if isinstance(target_modules, str) else list(target_modules)
    if not targets:
        raise ValueError(f"target_modules={target_modules!r} names no layer: name at least one, as 'q_proj'")
    for target in targets:
        hits = {name: part for name, part in layers.items() if matches(name, target)}
        if not hits:
            last_names = sorted({name.rpartition(".")[2] for name in layers})
            raise ValueError(f"no linear layer is called {target!r}; there are {', '.join(last_names)}")
        found |= hits
    return found


def is_linear(part: nn.Module | None) -> bool:
    return isinstance(getattr(part, "in_features", None), int) and isinstance(getattr(part, "out_features", None), int)


def linear_sizes(layer: nn.Module) -> tuple[int, int]:
    """Numbers in and out of a layer that ``is_linear``. Raises TypeError for another."""
    sizes = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    if not isinstance(sizes[0], int) or not isinstance(sizes[1], int):
        raise TypeError(f"a {type(layer).__name__} is no linear layer: it has no in_features and out_features")
    return sizes[0], sizes[1]


def device_and_dtype(layer: nn.Module) -> dict[str, Any]:
    """Where new parameters beside ``layer`` belong: its device; its precision if its weight has one to compute in."""
    tensors = [*layer.parameters(), *layer.buffers()]
    weight = getattr(layer, "weight", None)
    dtype = weight.dtype if weight is not None and weight.is_floating_point() else None
    return {"device": tensors[0].device if tensors else None, "dtype": dtype}
