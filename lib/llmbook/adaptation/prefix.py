"""Prefix tuning: learn the keys and values of a prefix in every layer (https://arxiv.org/abs/2101.00190).

A prompt reaches later tokens only through the keys and values it leaves behind. Prompt tuning learns what goes in at
the bottom; here those keys and values themselves are learned, in all layers, free of what any input could produce.

    in every layer:   attend(Q, [K_prefix, K], [V_prefix, V])

To the model the prefix is a cache that starts filled. The paper found training steadier when a small network makes
the prefix from a table (``d_reparametrise``); after training only what it makes is kept.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.adaptation.freeze import freeze
from llmbook.adaptation.prefix_cache import check_prefix, initial_ids, read_behind, record
from llmbook.model import DecoderLM, Output, TransformerConfig, evaluating
from llmbook.model.backbone import AttentionMask
from llmbook.model.cache import Cache
from llmbook.model.counted import Counted


class PrefixTuned(Counted):
    """``model``, frozen, with ``n_tokens`` learned keys and values before the input in each layer.

    Args:
        model: the language model; its parameters are frozen.
        n_tokens: the length of the prefix. The context left for tokens, ``config.max_seq_len``, shrinks by as many.
        init_ids: tokens whose keys and values the prefix starts from, repeated up to ``n_tokens``; random tokens
            unless given.
        d_reparametrise: width of the network that makes the prefix during training; ``drop_reparametrisation``
            ends it. The prefix then starts at random.

    Raises:
        ValueError: ``n_tokens`` leaves no room, ``init_ids`` do not fit or are given together with
            ``d_reparametrise``; the model has a sliding window.
    """

    def __init__(
        self,
        model: DecoderLM,
        *,
        n_tokens: int,
        init_ids: Sequence[int] | None = None,
        d_reparametrise: int | None = None,
    ):
        super().__init__()
        self.config = check_prefix(model.config, n_tokens)
        if d_reparametrise is not None and init_ids is not None:
            raise ValueError("a prefix made by a network cannot start from init_ids; give one of the two")
        weight = model.backbone.embeddings.tokens.weight
        self.maker: PrefixMaker | None = None
        if d_reparametrise is None:
            ids = initial_ids(model.config, n_tokens, init_ids).to(weight.device)
            self._keep(*keys_and_values_of(model, ids))
        else:
            self.maker = PrefixMaker(model.config, n_tokens=n_tokens, d_hidden=d_reparametrise).to(weight)
        freeze(model)
        self.model = model

    def prefix(self) -> tuple[Float[Tensor, "L Hk P D"], Float[Tensor, "L Hk P D"]]:
        """The keys and values of all layers, as they are now."""
        return (self.keys, self.values) if self.maker is None else self.maker()

    def drop_reparametrisation(self) -> None:
        """Keep what the network makes and forget the network; nothing changes but what is trained and stored.

        Raises:
            ValueError: there is no network.
        """
        if self.maker is None:
            raise ValueError("this prefix is not made by a network: there is nothing to drop (d_reparametrise is None)")
        with torch.no_grad():
            keys, values = self.prefix()
        self.maker = None
        self._keep(keys, values)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        *,
        attention_mask: AttentionMask | None = None,
        cache: Cache | None = None,
        need_weights: bool = False,
        need_hidden: bool = False,
    ) -> Output:
        """Logits [B, T, V] of the tokens behind the prefix; ``attention_mask`` covers tokens only."""
        options: dict[str, Any] = dict(cache=cache, need_weights=need_weights, need_hidden=need_hidden)
        return read_behind(self.model, *self.prefix(), input_ids, attention_mask=attention_mask, **options)

    def _keep(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = nn.Parameter(keys.clone()), nn.Parameter(values.clone())


class PrefixMaker(nn.Module):
    """A table [P, d_hidden] and two layers that turn each row into the keys and values of all layers.

    Raises ValueError for a ``d_hidden`` below 1.
    """

    def __init__(self, config: TransformerConfig, *, n_tokens: int, d_hidden: int):
        super().__init__()
        if d_hidden < 1:
            raise ValueError(f"d_reparametrise={d_hidden}: must be at least 1")
        self.shape = (2, config.n_layers, config.n_kv_heads, config.d_head)
        self.table = nn.Parameter(torch.randn(n_tokens, d_hidden))
        self.network = nn.Sequential(
            nn.Linear(d_hidden, d_hidden), nn.Tanh(), nn.Linear(d_hidden, math.prod(self.shape))
        )

    def forward(self) -> tuple[Float[Tensor, "L Hk P D"], Float[Tensor, "L Hk P D"]]:
        flat = self.network(self.table)  # [P, 2·L·Hk·D]
        keys, values = flat.unflatten(-1, self.shape).movedim(0, -2)  # each [L, Hk, P, D]
        return keys, values


def keys_and_values_of(
    model: DecoderLM, ids: Int[Tensor, "P"]
) -> tuple[Float[Tensor, "L Hk P D"], Float[Tensor, "L Hk P D"]]:
    """What real tokens at the start of a text leave in the memory of each layer."""
    with evaluating(model):
        return record(lambda recorder: model(ids[None], cache=recorder))
