"""Models made to be filled: from weights that are there already, so nothing is drawn, and nothing is believed.

A configuration from elsewhere may ask for any size. Its shapes are compared with those of the weights before memory
is taken for them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from llmbook.model import TransformerConfig
from llmbook.training.checkpoint import require_same_shapes

_DRAWS = (nn.init.normal_, nn.init.kaiming_uniform_, nn.init.uniform_)


class _SkipInit(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


@contextmanager
def skip_init() -> Iterator[None]:
    """Weights of a model made inside are whatever memory held: load all of them before use.

    For 135 million weights that saves seconds. Tables that are computed rather than drawn are as always.
    """
    with _SkipInit():
        yield


def build_for(
    make: Callable[[], nn.Module],
    config: TransformerConfig,
    shapes: Mapping[str, torch.Size | tuple[int, ...]],
    *,
    source: str | Path,
) -> nn.Module:
    """The model that ``make`` makes of ``config``, uninitialised, if its state has these names and shapes.

    Raises:
        ValueError: it has others; the first are given, with ``source``. Then no memory was taken.
    """
    depth = config.n_layers + (config.n_decoder_layers or 0)
    if depth > len(shapes):
        raise ValueError(f"{source} asks for {depth} layers and holds {len(shapes)} tensors")
    try:
        with torch.device("meta"):
            own = {name: tensor.shape for name, tensor in make().state_dict().items()}
    except (RuntimeError, OverflowError, TypeError) as error:  # TypeError: a size that no machine word holds
        raise ValueError(f"{source} asks for sizes that cannot be: {str(error).splitlines()[0]}") from None
    require_same_shapes(own, {name: torch.Size(shape) for name, shape in shapes.items()}, source=source)
    with skip_init():
        return make()


def filled(
    make: Callable[[], nn.Module], config: TransformerConfig, weights: Mapping[str, Tensor], *, source: str | Path
) -> nn.Module:
    """The model that ``make`` makes, with these weights, in evaluation mode. Raises as ``build_for`` does."""
    model = build_for(make, config, {name: weight.shape for name, weight in weights.items()}, source=source)
    model.load_state_dict(weights)
    return model.eval()
