"""What a decoder remembers between tokens: the keys and values of every position it has read.

A cache is an argument of the forward pass, never state inside a module: two conversations with one model are two
caches. This one reserves ``max_len`` positions at once, so appending copies only what is new.

The model asks for no more than the protocols ``Cache`` and ``LayerCache``; any object that keeps them may stand in
the place of ``KVCache`` (a sliding window, pages, a learned prefix).
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmbook.model.config import TransformerConfig

KeysValues = tuple[Float[Tensor, "B Hk S D"], Float[Tensor, "B Hk S D"]]


@runtime_checkable
class LayerCache(Protocol):
    """One layer's share of a cache.

    Three more things are asked for only by models that need them: ``remember`` for cross-attention, ``look_back`` for
    short convolutions, ``recall`` and ``keep`` for mixers with a state. ``FullLayerCache`` has all.
    """

    def append(self, k: Tensor, v: Tensor) -> KeysValues:
        """Take the new keys and values [B, Hk, T, D] and return all to be read, in order, the new ones last."""


@runtime_checkable
class StateCache(Protocol):
    """One layer's share of a cache that can keep what a mixer makes of all it has read."""

    def recall(self, name: str) -> Tensor | None:
        """What was kept under ``name``; None before the first token."""

    def keep(self, name: str, state: Tensor) -> None:
        """Let ``state`` [B, …] stand in its place."""


@runtime_checkable
class Cache(Protocol):
    """What a model needs of a memory: ``length`` positions read so far, and a share for each layer."""

    length: int

    def n_keys(self, q_len: int) -> int:
        """How many keys ``append`` will return when ``q_len`` new ones come."""

    def layer(self, index: int) -> LayerCache: ...

    def advance(self, n_tokens: int) -> None:
        """Count the tokens every layer has just appended."""


def of_layer(memory: Tensor | list, index: int) -> Tensor | list:
    """One layer of what is kept of all. Raises ValueError for a model of more layers than the cache was made for."""
    try:
        return memory[index]
    except IndexError:
        raise ValueError(
            f"the cache was made for {len(memory)} layers, and this model has more: make it from the model's own config"
        ) from None


def check_append(new: Tensor, memory: Tensor, *, batch: int) -> None:
    """Whether ``new``, keys [B, Hk, T, D] or inputs [B, T, C], may join one layer's ``memory`` of the like.

    Raises:
        ValueError: the batch is not the cache's, heads, width or type are those of another model, or it computes on
            another device.
        RuntimeError: what is new carries a gradient, which overwriting memory would corrupt.
    """
    if new.shape[0] != batch:
        raise ValueError(f"a cache made for a batch of {batch} cannot take a batch of {new.shape[0]}")
    if new.shape[-1] != memory.shape[-1] or (new.ndim == 4 and new.shape[1] != memory.shape[1]):
        raise ValueError(
            f"for each position this model brings {_each(new)} and the cache has {_each(memory)}: make it from the "
            "model's own config"
        )
    if new.device != memory.device:
        raise ValueError(
            f"this model computes on {new.device} and the cache is on {memory.device}: make it with "
            f"device={str(new.device)!r}"
        )
    if new.dtype != memory.dtype and not torch.is_autocast_enabled(new.device.type):  # which makes the types agree
        raise ValueError(f"this model computes in {new.dtype} and the cache holds {memory.dtype}: make it with dtype=…")
    if new.requires_grad:
        raise RuntimeError("a cache does not carry gradients: run the model under torch.no_grad()")


def _each(x: Tensor) -> str:
    heads = f"{x.shape[1]} heads of " if x.ndim == 4 else ""
    return f"{heads}{x.shape[-1]} numbers"


class KVCache:
    """Keys and values, [B, Hk, max_len, D] for each layer, of which the first ``length`` positions are filled.

    ``model(ids, cache=cache)`` reads it, appends to it and advances it. It does not carry gradients. For a decoder
    that reads an encoder's output, ``memories`` keeps that output's keys and values, computed at the first step; empty
    the cache with ``crop(0)`` before it reads another. For one with short convolutions over K positions, ``inputs``
    keeps, for each layer, what both of a block have read, [B, K - 1 + max_len, C] behind K - 1 zeros (all of it, not
    the last few, so that ``crop`` can go back). For one with other mixers, ``states`` keeps what each has made of all
    that was read, which cannot be cropped, and their layers take no room for keys. No two layers share a tensor: only
    then does a compiled model write in place.

    Raises ValueError for the configuration of an encoder–decoder's two stacks.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        batch_size: int = 1,
        max_len: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if config.n_decoder_layers is not None:
            raise ValueError(
                f"n_decoder_layers={config.n_decoder_layers}: an encoder–decoder's own config counts two stacks; make "
                "the cache from model.decoder.config"
            )
        self.max_len = config.max_seq_len if max_len is None else max_len

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device, dtype=dtype)

        layers = range(config.n_layers)
        rows = [self.max_len if config.mixer(i) is None else 0 for i in layers]
        self.keys = [zeros(batch_size, config.n_kv_heads, n, config.d_head) for n in rows]
        self.values = [torch.zeros_like(k) for k in self.keys]
        self.length = 0
        self.memories: list[KeysValues | None] = [None for _ in layers]
        self.states: list[dict[str, Tensor]] = [{} for _ in layers]
        n_before, width = (0, 0) if config.conv_width is None else (config.conv_width - 1, config.d_model)
        self.inputs = [[zeros(batch_size, n_before + self.max_len, width) for _ in range(2)] for _ in layers]

    def n_keys(self, q_len: int) -> int:
        return self.length + q_len

    def layer(self, index: int) -> "FullLayerCache":
        return FullLayerCache(self, index)

    def advance(self, n_tokens: int) -> None:
        self.length += n_tokens

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` positions; with none left, also the encoder's output that they read.

        Raises ValueError if there are fewer, and where a mixer's state holds them all in one.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"the cache holds {self.length} positions: it cannot be cropped to {length}")
        if any(self.states) and 0 < length < self.length:
            raise ValueError(
                f"the state of a mixer holds {self.length} positions as one: it can be cropped to 0, not to {length}; "
                "decode this model without speculation"
            )
        if length == 0:
            self.states = [{} for _ in self.states]
        self.length = length  # what lies behind will be overwritten
        if length == 0:
            self.memories = [None] * len(self.memories)

    def begin_with(self, other: "KVCache") -> None:
        """Hold what ``other`` holds, its one row in every row here."""
        self.length = other.length
        for new, old in zip(self.tensors(), other.tensors(), strict=True):
            n = self.length + new.shape[-2] - self.max_len  # K - 1 more of what a convolution reads
            new[..., :n, :] = old[..., :n, :]
        batch = self.keys[0].shape[0]
        self.states = [{k: s.expand(batch, *s.shape[1:]).clone() for k, s in state.items()} for state in other.states]

    def reorder(self, rows: Int[Tensor, "B_new"]) -> None:
        """Row i becomes what row ``rows[i]`` was; rows may be repeated or left out, and their number may change."""
        self.keys, self.values = [k[rows] for k in self.keys], [v[rows] for v in self.values]
        self.inputs = [[read[rows] for read in both] for both in self.inputs]
        self.states = [{name: state[rows] for name, state in kept.items()} for kept in self.states]
        self.memories = [m if m is None else (m[0][rows], m[1][rows]) for m in self.memories]

    def tensors(self) -> list[Tensor]:
        """All that is written from step to step, positions on the last axis but one; states are not among them."""
        return [*self.keys, *self.values, *(read for both in self.inputs for read in both)]

    @property
    def n_bytes(self) -> int:
        remembered = sum(k.nbytes + v.nbytes for k, v in filter(None, self.memories))
        states = sum(state.nbytes for kept in self.states for state in kept.values())
        return sum(tensor.nbytes for tensor in self.tensors()) + remembered + states


class FullLayerCache:
    """One layer's share of a ``KVCache``."""

    def __init__(self, cache: KVCache, index: int):
        self.cache, self.index = cache, index

    def remember(self, compute: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values that do not change from step to step: computed once."""
        if self.cache.memories[self.index] is None:
            self.cache.memories[self.index] = compute()
        return self.cache.memories[self.index]

    def append(self, k: Float[Tensor, "B Hk T D"], v: Float[Tensor, "B Hk T D"]) -> KeysValues:
        """Write new keys and values behind the old ones and return all of them. Raises as ``_fits`` does."""
        keys, values = of_layer(self.cache.keys, self.index), self.cache.values[self.index]
        start, end = self._fits(k, k.shape[2], keys)
        keys.narrow(2, start, k.shape[2]).copy_(k)  # as keys[:, :, start:end] = k, in half the time
        values.narrow(2, start, k.shape[2]).copy_(v)
        return keys.narrow(2, 0, end), values.narrow(2, 0, end)

    def look_back(self, place: int, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B KT C"]:
        """Write what a short convolution reads behind what it has read; the last K - 1 + T. Raises as ``_fits``."""
        inputs = of_layer(self.cache.inputs, self.index)[place]
        start, end = self._fits(x, x.shape[1], inputs)
        n_before = inputs.shape[1] - self.cache.max_len
        inputs.narrow(1, start + n_before, end - start).copy_(x)
        return inputs.narrow(1, start, n_before + end - start)

    def recall(self, name: str) -> Tensor | None:
        """A mixer's state after all it has read; None before the first token."""
        return of_layer(self.cache.states, self.index).get(name)

    def keep(self, name: str, state: Tensor) -> None:
        """Let ``state`` [B, …] be that of this layer.

        Raises ValueError for another batch than the cache's, RuntimeError for a state that carries a gradient.
        """
        batch = self.cache.keys[self.index].shape[0]
        if state.shape[0] != batch:
            raise ValueError(f"a cache made for a batch of {batch} cannot take a batch of {state.shape[0]}")
        if state.requires_grad:
            raise RuntimeError("a cache does not carry gradients: run the model under torch.no_grad()")
        self.cache.states[self.index][name] = state

    def _fits(self, new: Tensor, n_tokens: int, memory: Tensor) -> tuple[int, int]:
        """Where the next ``n_tokens`` positions begin and end.

        Raises ValueError where no room is left, and as ``check_append``.
        """
        start, end = self.cache.length, self.cache.length + n_tokens
        if end > self.cache.max_len:
            raise ValueError(
                f"the cache has room for {self.cache.max_len} positions and holds {start}: "
                f"{n_tokens} more do not fit; make it with a larger max_len"
            )
        check_append(new, memory, batch=memory.shape[0])
        return start, end
