"""A cache that forgets: for models whose every position reads only the last ``sliding_window`` ones.

What no later query may read need not be kept. The memory is a ring, the rolling buffer of Mistral
(https://arxiv.org/abs/2310.06825, §2): position p lies in slot p mod W, so each new key overwrites the one that has
just left the window. However long the text, the cache holds W positions.

    W = 4, after 6 tokens:   slot      0   1   2   3
                             position  4   5   2   3
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmbook.model.cache import KeysValues, check_append, of_layer
from llmbook.model.config import TransformerConfig


class SlidingKVCache:
    """Keys and values of the last W = ``sliding_window`` positions of all layers, [L, B, Hk, W, D].

    With short convolutions over K positions also what both of a block have read last, ``inputs`` [L, 2, B, K - 1, C].
    Takes the place of ``KVCache`` and gives the same results, since the model masks what it has forgotten.

    Raises:
        ValueError: the model, or a layer of it, has no window: it may read all that it has ever read, and forgetting
            would change it.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        batch_size: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if config.sliding_window is None:
            raise ValueError("sliding_window=None: this model reads its whole past, which needs a KVCache")
        if config.full_layers:
            raise ValueError(f"full_layers={config.full_layers} read their whole past, which needs a KVCache")
        self.window = config.sliding_window
        shape = (config.n_layers, batch_size, config.n_kv_heads, self.window, config.d_head)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0
        n_before, width = (0, 0) if config.conv_width is None else (config.conv_width - 1, config.d_model)
        self.inputs = torch.zeros((config.n_layers, 2, batch_size, n_before, width), device=device, dtype=dtype)

    @property
    def n_remembered(self) -> int:
        """How many of the past positions the next query may read: the window holds the query itself too."""
        return min(self.length, self.window - 1)

    def n_keys(self, q_len: int) -> int:
        """How many keys ``append`` will return when ``q_len`` new ones come."""
        return self.n_remembered + q_len

    def layer(self, index: int) -> "SlidingLayerCache":
        return SlidingLayerCache(self, index)

    def advance(self, n_tokens: int) -> None:
        """Count the tokens every layer has just appended."""
        self.length += n_tokens

    @property
    def n_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + self.inputs.nbytes

    def slots(self, start: int, end: int) -> Int[Tensor, "N"]:
        """Where positions ``start`` … ``end - 1`` lie in the ring."""
        return torch.arange(start, end, device=self.keys.device) % self.window


class SlidingLayerCache:
    """One layer's share of a sliding cache."""

    def __init__(self, cache: SlidingKVCache, index: int):
        self.cache, self.index = cache, index

    def append(self, k: Float[Tensor, "B Hk T D"], v: Float[Tensor, "B Hk T D"]) -> KeysValues:
        """The keys and values the new queries may read, in order of position; the last W of them are kept.

        Raises as ``check_append`` and ``of_layer``.
        """
        cache = self.cache
        keys, values = of_layer(cache.keys, self.index), cache.values[self.index]
        check_append(k, keys, batch=keys.shape[0])
        past = cache.slots(cache.length - cache.n_remembered, cache.length)
        all_keys = torch.cat([keys[:, :, past], k], dim=2)  # [B, Hk, S, D]
        all_values = torch.cat([values[:, :, past], v], dim=2)
        n_kept = min(k.shape[2], cache.window)  # of a longer chunk the beginning is already out of reach
        end = cache.length + k.shape[2]
        kept = cache.slots(end - n_kept, end)
        keys[:, :, kept], values[:, :, kept] = k[:, :, -n_kept:], v[:, :, -n_kept:]
        return all_keys, all_values

    def look_back(self, place: int, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B KT C"]:
        """What a short convolution has read last, and the new behind it. Raises as ``append``."""
        inputs = of_layer(self.cache.inputs, self.index)[place]
        check_append(x, inputs, batch=inputs.shape[0])
        window = torch.cat([inputs, x], dim=1)  # [B, K - 1 + T, C]
        inputs.copy_(window[:, x.shape[1] :])
        return window
