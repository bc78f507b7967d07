"""Two stacks: one reads a sequence in both directions, the other writes a second one from left to right.

    input_ids ── encoder ── memory [B, M, C] ──────────┐
     [B, M]                                            ↓ cross-attention in every block
    decoder_input_ids ── embeddings ── block × L ── norm ── W_vocab ── logits [B, T, V]
     [B, T]

The architecture of https://arxiv.org/abs/1706.03762 and of T5 (https://arxiv.org/abs/1910.10683). Our choice, theirs
too: one vocabulary and one token table for both sides; with ``tie_embeddings`` it is the output projection as well.
"""

from dataclasses import replace

from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmbook.model.backbone import AttentionMask, Backbone, Output, vocab_logits, vocab_projection
from llmbook.model.cache import Cache
from llmbook.model.config import TransformerConfig
from llmbook.model.language_model import LanguageModel


class EncoderDecoderLM(LanguageModel):
    """p(next token | the whole input, the output so far), as logits at every output position."""

    token_table = "encoder.embeddings.tokens"

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        stack = config.replace(n_decoder_layers=None)
        self.encoder = Backbone(stack, causal=False)
        self.decoder = Backbone(
            stack.replace(n_layers=config.n_decoder_layers or config.n_layers), causal=True, cross_attention=True
        )
        self.decoder.embeddings.tokens = self.encoder.embeddings.tokens
        self.lm_head = vocab_projection(config, self.encoder.embeddings.tokens)

    def encode(
        self, input_ids: Int[Tensor, "B M"], attention_mask: AttentionMask | None = None
    ) -> Float[Tensor, "B M C"]:
        """What the encoder makes of the input: the memory the decoder reads."""
        return self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state

    def forward(
        self,
        input_ids: Int[Tensor, "B M"] | None = None,
        decoder_input_ids: Int[Tensor, "B T"] | None = None,
        *,
        attention_mask: AttentionMask | None = None,
        decoder_attention_mask: Bool[Tensor, "B N"] | Int[Tensor, "B N"] | None = None,
        memory: Float[Tensor, "B M C"] | None = None,
        cache: Cache | None = None,
        need_weights: bool = False,
        need_hidden: bool = False,
    ) -> Output:
        """Logits [B, T, V] for the output token after each of ``decoder_input_ids``.

        Args:
            input_ids, attention_mask: the input, with 1 or True on real tokens; it may be padded on either side.
            decoder_input_ids, decoder_attention_mask: the output so far, beginning with a start token, and the same
                for it, over cached and new tokens alike.
            memory: the result of ``encode`` in place of ``input_ids``, so that a step of generation need not encode.
            cache: memory of earlier output tokens, made from ``decoder.config``; ``decoder_input_ids`` then holds
                only the new ones, and the input's keys and values are computed once.

        Raises:
            ValueError: there is nothing to write, or not exactly one of ``input_ids`` and ``memory`` to read.
        """
        if decoder_input_ids is None:
            raise ValueError("decoder_input_ids are missing: the output so far, at least its start token")
        if (input_ids is None) == (memory is None):
            raise ValueError("give either input_ids or the memory made from them, not both and not neither")
        if memory is None:
            memory = self.encode(input_ids, attention_mask)
        out = self.decoder(
            decoder_input_ids,
            attention_mask=decoder_attention_mask,
            memory=memory,
            memory_mask=attention_mask,
            cache=cache,
            need_weights=need_weights,
            need_hidden=need_hidden,
        )
        return replace(out, logits=vocab_logits(self, out.last_hidden_state))
