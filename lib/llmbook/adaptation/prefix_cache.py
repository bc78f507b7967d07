"""Keys and values that stand before everything a model reads, as a cache.

``PrefixCache`` keeps the protocol of ``llmbook.model.cache.Cache``: to the model it is a memory that already holds P
positions. What is read afterwards goes into ``rest``, any other cache, or nowhere (training). New keys are
concatenated, not written into memory, so gradients reach the prefix.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmbook.model import Output, TransformerConfig
from llmbook.model.backbone import AttentionMask
from llmbook.model.cache import Cache, KeysValues


class PrefixCache:
    """``keys`` and ``values`` [L, Hk, P, D], the same for every row, before what ``rest`` remembers.

    ``order`` rearranges the P + S columns of each row: see ``extended``.
    """

    def __init__(self, keys: Tensor, values: Tensor, *, rest: Cache | None = None, order: Tensor | None = None):
        self.keys, self.values, self.rest, self.order = keys, values, rest, order

    @property
    def length(self) -> int:
        return self.keys.shape[2] + (0 if self.rest is None else self.rest.length)

    def n_keys(self, q_len: int) -> int:
        return self.keys.shape[2] + (q_len if self.rest is None else self.rest.n_keys(q_len))

    def layer(self, index: int) -> "PrefixLayerCache":
        return PrefixLayerCache(self, index)

    def advance(self, n_tokens: int) -> None:
        if self.rest is not None:
            self.rest.advance(n_tokens)


class PrefixLayerCache:
    """One layer's share of a ``PrefixCache``."""

    def __init__(self, cache: PrefixCache, index: int):
        self.cache, self.index = cache, index

    def append(self, k: Float[Tensor, "B Hk T D"], v: Float[Tensor, "B Hk T D"]) -> KeysValues:
        if self.cache.rest is not None:
            k, v = self.cache.rest.layer(self.index).append(k, v)  # [B, Hk, S, D]
        return self._before(self.cache.keys[self.index], k), self._before(self.cache.values[self.index], v)

    def _before(self, prefix: Float[Tensor, "Hk P D"], read: Float[Tensor, "B Hk S D"]) -> Float[Tensor, "B Hk PS D"]:
        columns = torch.cat([prefix.to(read.dtype).expand(len(read), -1, -1, -1), read], dim=2)
        return columns if self.cache.order is None else arranged(columns, self.cache.order, dim=2)


class Recorder:
    """A cache for one pass that keeps each layer's keys and values as the model computed them, gradients included."""

    def __init__(self):
        self.length, self.layers = 0, []

    def n_keys(self, q_len: int) -> int:
        return q_len

    def layer(self, index: int) -> "Recorder":
        return self  # layers come in order

    def append(self, k: Tensor, v: Tensor) -> KeysValues:
        self.layers.append((k, v))
        return k, v

    def advance(self, n_tokens: int) -> None:
        self.length += n_tokens


def record(read: Callable[[Recorder], object]) -> tuple[Float[Tensor, "L Hk P D"], Float[Tensor, "L Hk P D"]]:
    """The keys and values of all layers that ``read(cache)``, a pass over a batch of 1, computes."""
    recorder = Recorder()
    read(recorder)
    keys, values = zip(*recorder.layers, strict=True)
    return torch.cat(keys), torch.cat(values)  # [L, Hk, P, D]


def read_behind(
    model: nn.Module, keys: Tensor, values: Tensor, input_ids: Tensor, *, attention_mask: Tensor | None, **options
) -> Output:
    """A pass of ``model`` over ``input_ids`` [B, T] behind the prefix of ``keys`` and ``values`` [L, Hk, P, D].

    ``attention_mask`` [B, S] is that of the sequence, without the prefix; ``options`` may hold a ``cache`` for it.
    """
    order = None
    if attention_mask is not None:
        attention_mask, order = extended(attention_mask, keys.shape[2])
    cache = PrefixCache(keys, values, rest=options.pop("cache", None), order=order)
    return model(input_ids, attention_mask=attention_mask, cache=cache, **options)


def extended(
    attention_mask: AttentionMask, n_prefix: int
) -> tuple[Bool[Tensor, "B PS"] | Int[Tensor, "B PS"], Int[Tensor, "B PS"] | None]:
    """The mask over prefix and sequence, and the order of their columns: from where each comes in [prefix, sequence].

    A row padded on the left reads padding, prefix, tokens: a scheme that measures distance in columns would else see
    a gap behind the prefix. Without such a row the order is None.
    """
    ones = attention_mask.new_ones(len(attention_mask), n_prefix)
    columns = torch.cat([ones, attention_mask], dim=1)  # [B, P + S]
    padding = torch.cat([~ones.bool(), attention_mask.cumsum(1) == 0], dim=1)  # left of the first real token
    if not padding.any():
        return columns, None
    order = padding.int().argsort(dim=1, descending=True, stable=True)
    return arranged(columns, order, dim=1), order


def arranged(columns: Tensor, order: Int[Tensor, "B PS"], *, dim: int) -> Tensor:
    """``columns`` with axis ``dim`` of each row in the given order."""
    shape = [1] * columns.ndim
    shape[0], shape[dim] = order.shape
    return columns.gather(dim, order.view(shape).expand_as(columns))


def check_prefix(config: TransformerConfig, n_tokens: int) -> TransformerConfig:
    """The configuration as it looks behind a prefix: ``n_tokens`` positions shorter.

    Raises:
        ValueError: no room is left, a sliding window would let the prefix fall out of sight, or short convolutions and
            other mixers would have nothing to read in its place.
    """
    if not 1 <= n_tokens < config.max_seq_len:
        raise ValueError(f"n_tokens={n_tokens}: must lie between 1 and max_seq_len - 1 = {config.max_seq_len - 1}")
    if config.sliding_window is not None:
        raise ValueError(f"sliding_window={config.sliding_window}: later tokens would not see the prefix; use LoRA")
    if config.conv_width is not None:
        raise ValueError(f"conv_width={config.conv_width}: a prefix is no token that could be looked back on; use LoRA")
    if any(config.mixers):
        raise ValueError(f"mixers={config.mixers}: a prefix is keys and values, which only attention reads; use LoRA")
    return config.replace(max_seq_len=config.max_seq_len - n_tokens)


def initial_ids(config: TransformerConfig, n_tokens: int, init_ids: Sequence[int] | None) -> Int[Tensor, "P"]:
    """``n_tokens`` tokens to start from: ``init_ids``, repeated as often as needed, or any of the vocabulary.

    Raises ValueError for empty ``init_ids``, more than ``n_tokens`` of them, and one outside the vocabulary.
    """
    if init_ids is None:
        return torch.randint(config.vocab_size, (n_tokens,))
    ids = torch.as_tensor(list(init_ids), dtype=torch.long)
    if len(ids) == 0 or len(ids) > n_tokens or ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ValueError(
            f"init_ids={list(init_ids)[:8]}: give 1 to n_tokens={n_tokens} tokens of the vocabulary "
            f"0…{config.vocab_size - 1}, as tokenizer.encode returns them"
        )
    return ids.repeat(-(-n_tokens // len(ids)))[:n_tokens]
