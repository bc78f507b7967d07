"""Looking at a model without changing it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module | Iterable[nn.Module]) -> Iterator[None]:
    """Dropout off and no gradients inside; every part of the model returns to the mode it was in.

    Who enters for every token may give the list of ``model.modules()``: finding them takes longer than asking them.
    """
    modules = model.modules() if isinstance(model, nn.Module) else model
    in_training = [module for module in modules if module.training]  # some parts may be frozen
    for module in in_training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in in_training:
            module.training = True
