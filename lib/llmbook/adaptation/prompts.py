"""Prompt tuning: learn the vectors of a prompt, not its words (https://arxiv.org/abs/2104.08691).

    learned vectors [P, C] ── and then ── vectors of the tokens [B, T, C] ── the frozen model ── logits [B, T, V]

P · C numbers are all that is learned. They start as the vectors of words of the vocabulary, which the paper found
better than noise. While generating, the prompt is read once and its keys and values are kept until a weight changes;
so every cache and every way of decoding works behind it unchanged.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from llmbook.adaptation.freeze import freeze
from llmbook.adaptation.prefix_cache import (
    arranged,
    check_prefix,
    extended,
    initial_ids,
    read_behind,
    record,
)
from llmbook.model import DecoderLM, Output
from llmbook.model.backbone import AttentionMask
from llmbook.model.cache import Cache


class PromptTuned(nn.Module):
    """``model``, frozen, behind ``n_tokens`` learned vectors; to objectives and to ``generate`` a model like any other.

    Args:
        model: the language model; its parameters are frozen.
        n_tokens: how many vectors are learned. The context left for tokens, ``config.max_seq_len``, shrinks by as many.
        init_ids: tokens whose vectors the prompt starts from, repeated up to ``n_tokens``; random tokens unless given.

    Raises:
        ValueError: ``n_tokens`` leaves no room or ``init_ids`` do not fit; the model has a sliding window.
    """

    def __init__(self, model: DecoderLM, *, n_tokens: int, init_ids: Sequence[int] | None = None):
        super().__init__()
        self.config = check_prefix(model.config, n_tokens)
        table = model.backbone.embeddings.tokens.weight
        ids = initial_ids(model.config, n_tokens, init_ids).to(table.device)
        freeze(model)
        self.prompt = nn.Parameter(table.detach()[ids].clone())  # [P, C]
        self.model = model
        self._kept: tuple[Tensor, Tensor] | None = None  # what the prompt leaves in a memory
        self._kept_of: list[tuple[Tensor, int]] = []  # the weights it was computed with, and how often each had changed

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        *,
        attention_mask: AttentionMask | None = None,
        cache: Cache | None = None,
        need_weights: bool = False,
        need_hidden: bool = False,
    ) -> Output:
        """Logits [B, T, V] of the tokens behind the prompt; ``attention_mask`` covers tokens only."""
        options: dict[str, Any] = dict(need_weights=need_weights, need_hidden=need_hidden)
        if cache is not None:
            prefix = self._keys_and_values()
            return read_behind(self.model, *prefix, input_ids, attention_mask=attention_mask, cache=cache, **options)
        n_prompt = len(self.prompt)
        tokens = self.model.backbone.embeddings.tokens(input_ids)  # [B, T, C]
        x = torch.cat([self.prompt.expand(len(tokens), -1, -1), tokens], dim=1)  # [B, P + T, C]
        if attention_mask is not None:
            attention_mask, order = extended(attention_mask, n_prompt)
            x = x if order is None else arranged(x, order, dim=1)
        out = self.model(inputs_embeds=x, attention_mask=attention_mask, **options)
        return replace(  # the last T positions are the tokens
            out,
            logits=out.logits[:, n_prompt:],
            last_hidden_state=out.last_hidden_state[:, n_prompt:],
            hidden_states=out.hidden_states and tuple(h[:, n_prompt:] for h in out.hidden_states),
            attentions=out.attentions and tuple(a[:, :, n_prompt:] for a in out.attentions),
        )

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def _keys_and_values(self) -> tuple[Tensor, Tensor]:
        """What the prompt leaves in a cache; computed again only when a weight has changed or gradients are wanted."""
        if torch.is_grad_enabled():
            return self._read_prompt()
        weights: list[tuple[Tensor, int]] = [(p, 0 if p.is_inference() else p._version) for p in self.parameters()]
        if (
            self._kept is None
            or len(weights) != len(self._kept_of)
            or any(p is not q or n != m for (p, n), (q, m) in zip(weights, self._kept_of, strict=True))
        ):
            self._kept, self._kept_of = self._read_prompt(), weights
        return self._kept

    def _read_prompt(self) -> tuple[Tensor, Tensor]:
        return record(lambda recorder: self.model(inputs_embeds=self.prompt[None], cache=recorder))

    def _apply(self, fn, recurse=True):
        self._kept, self._kept_of = None, []  # another device or dtype
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        """What copies and pickles take along: not what can be computed again."""
        return {**self.__dict__, "_kept": None, "_kept_of": []}
