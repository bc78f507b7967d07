"""Whole models: a decoder language model and an encoder, on one backbone.

    hidden states ──┬──────────────────────────────── Encoder     [B, T, C]
       [B, T, C]    └── W_vocab ── logits ─────────── DecoderLM   [B, T, V]

A model returns logits, and hidden states and attentions on request. Losses live with training, the cache is an
argument. Encoder and decoder together are in ``encoder_decoder.py``, other heads in ``heads.py``.
"""

from dataclasses import replace

from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmbook.model.backbone import AttentionMask, Backbone, Output, vocab_logits, vocab_projection
from llmbook.model.cache import Cache
from llmbook.model.config import TransformerConfig
from llmbook.model.language_model import LanguageModel


class DecoderLM(LanguageModel):
    """A causal language model: p(next token | all before it), as logits at every position."""

    token_table = "backbone.embeddings.tokens"

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.backbone = Backbone(config, causal=True)
        self.lm_head = vocab_projection(config, self.backbone.embeddings.tokens)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"] | None = None,
        *,
        attention_mask: AttentionMask | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        inputs_embeds: Float[Tensor, "B T C"] | None = None,
        cache: Cache | None = None,
        need_weights: bool = False,
        need_hidden: bool = False,
    ) -> Output:
        """Logits [B, T, V] for the token after each position; the arguments are those of ``Backbone.forward``."""
        out = self.backbone(
            input_ids,
            attention_mask=attention_mask,
            mask=mask,
            inputs_embeds=inputs_embeds,
            cache=cache,
            need_weights=need_weights,
            need_hidden=need_hidden,
        )
        return replace(out, logits=vocab_logits(self, out.last_hidden_state))


class Encoder(Backbone):
    """A bidirectional reader: a vector [C] for every token that has seen the whole sequence."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config, causal=False)
