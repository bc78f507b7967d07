"""A model whose random start would be thrown away at once need not draw it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.overrides import TorchFunctionMode

_DRAWS = (nn.init.normal_, nn.init.kaiming_uniform_, nn.init.uniform_)


class _Undrawn(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


@contextmanager
def undrawn() -> Iterator[None]:
    """Weights of a model made inside are whatever memory held: load all of them before use.

    For 135 million weights that saves seconds. Tables that are computed rather than drawn are as always.
    """
    with _Undrawn():
        yield
