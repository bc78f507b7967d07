"""What a decoder remembers between tokens: the keys and values of every position it has read.

A cache is an argument of the forward pass, never state inside a module: two conversations with one model are two
caches. This one reserves ``max_len`` positions at once, so appending copies only what is new.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from llmbook.model.config import TransformerConfig


class KVCache:
    """Keys and values of all layers, [L, B, Hk, max_len, D], of which the first ``length`` positions are filled.

    ``model(ids, cache=cache)`` reads it, appends to it and advances it. It does not carry gradients.
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
        self.max_len = config.max_seq_len if max_len is None else max_len
        shape = (config.n_layers, batch_size, config.n_kv_heads, self.max_len, config.d_head)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    def layer(self, index: int) -> "LayerCache":
        return LayerCache(self, index)

    def advance(self, n_tokens: int) -> None:
        """Count the tokens every layer has just appended."""
        self.length += n_tokens

    @property
    def n_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


class LayerCache:
    """One layer's share of a cache."""

    def __init__(self, cache: KVCache, index: int):
        self.cache, self.index = cache, index

    def append(
        self, k: Float[Tensor, "B Hk T D"], v: Float[Tensor, "B Hk T D"]
    ) -> tuple[Float[Tensor, "B Hk S D"], Float[Tensor, "B Hk S D"]]:
        """Write new keys and values behind the old ones and return all of them.

        Raises:
            ValueError: no room is left, or the batch differs from the cache's.
            RuntimeError: the keys carry a gradient, which overwriting memory would corrupt.
        """
        keys, values = self.cache.keys[self.index], self.cache.values[self.index]
        start, end = self.cache.length, self.cache.length + k.shape[2]
        if end > self.cache.max_len:
            raise ValueError(
                f"the cache has room for {self.cache.max_len} positions and holds {start}: "
                f"{k.shape[2]} more do not fit; make it with a larger max_len"
            )
        if k.shape[0] != keys.shape[0]:
            raise ValueError(f"a cache made for a batch of {keys.shape[0]} cannot take a batch of {k.shape[0]}")
        if k.requires_grad:
            raise RuntimeError("a cache does not carry gradients: run the model under torch.no_grad()")
        keys[:, :, start:end], values[:, :, start:end] = k, v
        return keys[:, :, :end], values[:, :, :end]
