"""What a model reads must lie where the model lies; torch notices too, but deep inside and without saying what."""

from torch import Tensor


def require_device(weight: Tensor, **given: Tensor | None) -> None:
    """Raise ValueError, with its name, for what is ``given`` to a model on another device than its ``weight``."""
    for name, tensor in given.items():
        if tensor is not None and tensor.device != weight.device:
            raise ValueError(
                f"{name} is on {tensor.device} and the model on {weight.device}: give "
                f"{name}.to({str(weight.device)!r}), or move the model"
            )
