"""The frozen model that a trained one is compared with: a copy from before, or the model without its LoRA."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from llmbook.adaptation.lora import without_lora
from llmbook.model import evaluating


@contextmanager
def reading(reference: nn.Module | None, model: nn.Module) -> Iterator[nn.Module]:
    """The reference, without gradients and without dropout. Without one, ``model`` without its LoRA; raises ValueError
    if it has none."""
    if reference is not None:
        with evaluating(reference):
            yield reference
    else:
        with without_lora(model), evaluating(model):
            yield model
