r"""The step of one token as one program, written by ``torch.compile``.

At batch 1 a token is hundreds of small operations, each started from Python. Compiled, those between two matrix
products become one loop, and what is left to start is little more than the products (the benchmarks say what it saves).
The price is half a minute to a minute before the second token, and a C++ compiler.

Before each call of what it has compiled torch checks that everything it relied on still holds: for a model of thirty
layers some three thousand checks, a millisecond. The model's share of them is left out here, and with it goes the
model's freedom to change: https://docs.pytorch.org/docs/stable/torch.compiler_api.html lists such *guards*.
"""

import types
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from llmbook.cpu.inductor import frozen_weights
from llmbook.model import KVCache, Output
from llmbook.model.cache import Cache


class CompiledDecoder(nn.Module):
    """Reads and writes like ``model``, a ``DecoderLM`` or ``FusedDecoder``; the step of one token a row is compiled.

    That step is taken with a ``KVCache`` that holds two tokens or more, without a mask and without gradients, as
    ``generate`` does for texts of one length. Everything else, prompts first of all, ``model`` reads itself.

    The step is compiled when it is first taken, and once more for another batch size. It keeps the model as it was:
    on the CPU the weights of ``nn.Linear`` are laid out for products with few rows, as a second copy, so that
    ``pack_linears`` is not needed. Loading a state or moving the model compiles it again; after any other change
    (training, quantising, an adapter) make a new ``CompiledDecoder``.

    Raises:
        RuntimeError: at the first step, torch's own, where nothing can be compiled (no C++ compiler, say).
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.config = model, model.config
        self._forget()

    def forward(
        self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None, cache: Cache | None = None
    ) -> Output:
        """As ``model`` does."""
        if (
            input_ids.shape[1] != 1
            or attention_mask is not None
            or type(cache) is not KVCache
            or not 2 <= cache.length < cache.max_len - 1  # each of the others would be a program of its own
            or self.training
            or torch.is_grad_enabled()
        ):
            return self.model(input_ids, attention_mask=attention_mask, cache=cache)
        memory, input_ids = cache.keys[0], input_ids.clone(memory_format=torch.contiguous_format)
        kind = (*memory.shape[:2], memory.dtype, memory.is_inference(), torch.is_inference_mode_enabled())
        if kind in self._compiled_for:
            return self._step(input_ids, cache)
        lengths = torch.compiler.config.patch(dynamic_sources=r"L\['cache'\].*")  # the only sizes that may vary
        with lengths, frozen_weights(memory.device.type == "cpu"):
            output = self._step(input_ids, cache)
        self._compiled_for.add(kind)
        return output

    def _forget(self) -> None:
        self._step, self._compiled_for = _compile(self.model), set()

    def _apply(self, fn, recurse=True):
        moved = super()._apply(fn, recurse)
        self._forget()
        return moved

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._forget()

    def __getstate__(self) -> dict:
        """Copies and pickles take the model along and compile it themselves."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_step", "_compiled_for")}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._forget()


def _compile(model: nn.Module) -> Callable[[Tensor, KVCache], Output]:
    """The step of ``model``, to be compiled when it is called; no part of the model may change then."""

    def step(input_ids: Tensor, cache: KVCache) -> Output:
        return model(input_ids, cache=cache)

    # torch finds what it has compiled by the code object: without one of its own, one model would answer for another.
    own = types.FunctionType(step.__code__.replace(), step.__globals__, "step", None, step.__closure__)
    guards = torch.compiler.skip_guard_on_all_nn_modules_unsafe
    return torch.compile(own, fullgraph=True, options={"guard_filter_fn": guards})
