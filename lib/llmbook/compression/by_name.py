"""The layers that compression works on, chosen by dotted name."""

from collections.abc import Sequence

from torch import nn


def linear_layers(model: nn.Module, skip: Sequence[str]) -> dict[str, nn.Linear]:
    """The ``nn.Linear`` layers of ``model`` by dotted name, without those in ``skip`` (layers, or parts with layers).

    Raises:
        ValueError: a name in ``skip`` is none of the model's (but "lm_head", the usual one, may be missing: an encoder
            has no head), or no layer is left.
    """
    modules = dict(model.named_modules())
    for name in skip:
        if name not in modules and name != "lm_head":
            raise ValueError(f"skip names {name!r}, which the model does not have; see model.named_modules()")
    layers = {
        name: module
        for name, module in modules.items()
        if isinstance(module, nn.Linear) and not any(name == part or name.startswith(f"{part}.") for part in skip)
    }
    if not layers:
        raise ValueError(f"no linear layer is left in {type(model).__name__} outside skip={tuple(skip)}")
    return layers
