"""An option of ``torch.compile`` that its public configuration does not have."""

from contextlib import AbstractContextManager, nullcontext

import torch


def frozen_weights(frozen: bool) -> AbstractContextManager:
    """While a step is compiled inside: take its weights as constants and lay them out for the products that read them.

    A torch without the option compiles the step with weights as they are.
    """
    options = getattr(getattr(torch, "_inductor", None), "config", None)
    if options is None or not hasattr(options, "freezing"):
        return nullcontext()
    return options.patch(freezing=frozen)
