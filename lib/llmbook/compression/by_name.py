"""The layers that compression works on, chosen by name as ``llmbook.model.parts`` says."""

from collections.abc import Sequence

from torch import nn

from llmbook.model.parts import lies_in, matches


def linear_layers(model: nn.Module, skip: str | Sequence[str]) -> dict[str, nn.Linear]:
    """The ``nn.Linear`` layers of ``model`` by dotted name, without those in ``skip`` (layers, or parts with layers).

    Raises:
        ValueError: a name in ``skip`` is none of the model's (but "lm_head", the usual one, may be missing: an encoder
            has no head), or no layer is left.
    """
    skip = [skip] if isinstance(skip, str) else skip
    modules = dict(model.named_modules())
    for pattern in skip:
        if pattern != "lm_head" and not any(matches(name, pattern) for name in modules):
            raise ValueError(f"skip names {pattern!r}, which the model does not have; see model.named_modules()")
    layers = {
        name: module
        for name, module in modules.items()
        if isinstance(module, nn.Linear) and not any(lies_in(name, pattern) for pattern in skip)
    }
    if not layers:
        raise ValueError(f"no linear layer is left in {type(model).__name__} outside skip={tuple(skip)}")
    return layers
