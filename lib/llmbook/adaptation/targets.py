"""Finding the linear layers an adaptation is hung on, and putting something else in their place.

A layer is anything that has ``in_features`` and ``out_features``: ``nn.Linear``, ours, or one that stores its weight
quantised. A target ``"q_proj"`` means every layer of that last name; ``"blocks.0.attention.q_proj"`` only those
whose dotted name ends so.
"""

from collections.abc import Sequence

from torch import nn


def find_targets(model: nn.Module, target_modules: Sequence[str]) -> dict[str, nn.Module]:
    """The layers meant, by dotted name.

    Raises:
        ValueError: a target matches no linear layer; the last names of those there are follow.
    """
    layers = {name: part for name, part in model.named_modules() if is_linear(part)}
    found = {}
    for target in [target_modules] if isinstance(target_modules, str) else target_modules:
        hits = {name: part for name, part in layers.items() if f".{name}".endswith(f".{target}")}
        if not hits:
            last_names = sorted({name.rpartition(".")[2] for name in layers})
            raise ValueError(f"no linear layer is called {target!r}; there are {', '.join(last_names)}")
        found |= hits
    return found


def is_linear(part: nn.Module) -> bool:
    return isinstance(getattr(part, "in_features", None), int) and isinstance(getattr(part, "out_features", None), int)


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where ``name`` points, in the parent's mode and place."""
    parent_name, _, last = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    setattr(parent, last, new.train(parent.training))


def device_and_dtype(layer: nn.Module) -> dict:
    """Where new parameters beside ``layer`` belong: its device; its precision if its weight has one to compute in."""
    tensors = [*layer.parameters(), *layer.buffers()]
    weight = getattr(layer, "weight", None)
    dtype = weight.dtype if weight is not None and weight.is_floating_point() else None
    return {"device": tensors[0].device if tensors else None, "dtype": dtype}
