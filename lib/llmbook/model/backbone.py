"""The trunk every model of the library shares: embeddings, L blocks, a last norm.

    input_ids ── embeddings ── block × L ── norm ── last_hidden_state
      [B, T]      [B, T, C]     [B, T, C]             [B, T, C]

The choice this file makes: one backbone for encoder and decoder; an encoder is the same stack without the causal rule,
the decoder of an encoder–decoder the same with cross-attention in each block.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmbook.model.attention import capped
from llmbook.model.cache import Cache
from llmbook.model.config import TransformerConfig
from llmbook.model.counted import Counted
from llmbook.model.devices import require_device
from llmbook.model.embeddings import Embeddings
from llmbook.model.initialise import initialise
from llmbook.model.layers import Block
from llmbook.model.linear import Linear
from llmbook.model.masks import padding_mask, sliding_window_mask
from llmbook.model.norms import make_norm
from llmbook.model.position_bias import make_position_bias
from llmbook.model.rotary import Rotary

AttentionMask = Bool[Tensor, "B S"] | Int[Tensor, "B S"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a forward pass gives back; what was not asked for is None.

    Attributes:
        logits: [B, T, V], unnormalised log-probabilities of a token at or after each place (language models), or
            [B, n_labels] or [B, T, n_labels] of a class (classifiers).
        last_hidden_state: [B, T, C], after the last norm (None only for models that count, which have none).
        hidden_states: L + 1 tensors [B, T, C]: the embeddings, then the stream after each block.
        attentions: L tensors of weights [B, H, T, S].
        cross_attentions: L tensors of weights [B, H, T, M] over an encoder's M positions.
    """

    logits: Tensor | None = None
    last_hidden_state: Tensor | None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


class Backbone(Counted):
    """Embeddings, L blocks and, unless they are post-norm, a last norm; ``causal`` says whether the future is hidden.

    Raises ValueError for ``n_decoder_layers``, and for a sliding window, short convolutions or mixers where the
    future is not hidden.
    """

    def __init__(self, config: TransformerConfig, *, causal: bool, cross_attention: bool = False):
        super().__init__()
        if config.n_decoder_layers is not None:
            raise ValueError(
                f"n_decoder_layers={config.n_decoder_layers} is for an encoder–decoder; here n_layers is the depth"
            )
        if config.sliding_window is not None and not causal:
            raise ValueError(
                f"sliding_window={config.sliding_window} looks back only: it needs a causal model, not an encoder"
            )
        if config.conv_width is not None and not causal:
            raise ValueError(
                f"conv_width={config.conv_width}: short convolutions look back only; an encoder takes conv_width=None"
            )
        if any(config.mixers) and not causal:
            raise ValueError(f"mixers={config.mixers} read in order: they need a causal model, not an encoder")
        self.config, self.causal = config, causal
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(
            Block(config, layer=i, cross_attention=cross_attention) for i in range(config.n_layers)
        )
        self.final_norm = nn.Identity() if config.norm_position == "post" else make_norm(config)
        self.position_bias = make_position_bias(config, causal=causal)
        self.rotary, self.window_rotary = make_rotary(config)
        initialise(self, config)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"] | None = None,
        *,
        attention_mask: AttentionMask | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        inputs_embeds: Float[Tensor, "B T C"] | None = None,
        segment_ids: Int[Tensor, "B T"] | None = None,
        memory: Float[Tensor, "B M C"] | None = None,
        memory_mask: Bool[Tensor, "B M"] | Int[Tensor, "B M"] | None = None,
        cache: Cache | None = None,
        need_weights: bool = False,
        need_hidden: bool = False,
    ) -> Output:
        """Read a sequence, given as token numbers or as vectors.

        Args:
            input_ids: token numbers below ``vocab_size``.
            attention_mask: 1 or True on real tokens, over cached and new positions alike. Padding may stand on either
                side; to generate, pad on the left, so that every row ends with its last token.
            mask: True where a position may attend to another, broadcastable to [B, H, T, S]; takes the place of the
                causal rule and of the sliding window (prefixes, packed documents). Padding is hidden as well.
            inputs_embeds: vectors in place of ``input_ids``; positions and segments are added to them.
            segment_ids: which of ``n_segments`` parts a token belongs to; 0 unless given.
            memory, memory_mask: what cross-attention reads, and 1 or True where it is not padding.
            cache: memory of earlier tokens, appended to; the input then holds only the new ones.
            need_weights: also return every layer's attention weights (through the eager backend).
            need_hidden: also return the residual stream after every block.

        Raises:
            ValueError: what is given lies on another device than the model, the sequence is longer than learned
                positions or the cache allow, a mask does not fit, an
                entry of ``input_ids`` is no token (a GPU stops with an error of its own),
                not exactly one of ``input_ids`` and ``inputs_embeds`` is given, ``input_ids`` without an axis for the
                batch, ``memory_mask`` without ``memory``, a cache to an encoder, or ``mask`` to a model with short
                convolutions or mixers, which it would not hold back.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, not both and not neither")
        if segment_ids is not None and self.embeddings.segments is None:
            raise ValueError("segment_ids were given to a model without segments; make it with n_segments of 2 or more")
        if memory_mask is not None and memory is None:
            raise ValueError("memory_mask was given without the memory [B, M, C] it describes")
        if cache is not None and not self.causal:
            raise ValueError("a cache holds what came before, but an encoder also reads what comes after: use none")
        if mask is not None and self._reads_in_order:
            beside = "conv_width" if self.config.conv_width is not None else "mixers"
            raise ValueError(
                f"mask says who may read whom, but with {beside}={getattr(self.config, beside)} each position also "
                f"reads what stands before it: make the model without {beside}"
            )
        given = input_ids if inputs_embeds is None else inputs_embeds
        if inputs_embeds is None and given.ndim < 2:
            raise ValueError(
                f"input_ids has shape {tuple(given.shape)}: expected [batch, tokens], as torch.tensor([ids])"
            )
        require_device(
            next(self.blocks.parameters()), input_ids=input_ids, inputs_embeds=inputs_embeds,
            attention_mask=attention_mask, mask=mask, segment_ids=segment_ids, memory=memory, memory_mask=memory_mask,
        )  # fmt: skip
        q_len, n_past = given.shape[1], 0 if cache is None else cache.length
        k_len = q_len if cache is None else cache.n_keys(q_len)
        positions = self._positions(given, attention_mask, n_past)  # [B, T]
        x = self.embeddings(input_ids, positions, segment_ids=segment_ids, inputs_embeds=inputs_embeds)  # [B, T, C]
        angles = None if self.rotary is None else self.rotary(positions)
        full = near = dict(mask=self._may_attend(attention_mask, mask, k_len), angles=angles)
        if self.config.sliding_window is not None:  # what layers with a window are given
            near = dict(
                mask=self._may_attend(attention_mask, self._window(mask, q_len, k_len, x.device), k_len),
                angles=angles if self.window_rotary is None else self.window_rotary(positions),
            )
        shared = dict(
            bias=None if self.position_bias is None else self.position_bias(q_len, k_len),
            causal=self.causal and mask is None,
            memory=memory,
            memory_mask=None if memory_mask is None else padding_mask(memory_mask),
            need_weights=need_weights,
        )
        if self._reads_in_order and attention_mask is not None:
            shared["real"] = attention_mask[:, -q_len:] != 0  # [B, T]
        hidden, attentions, cross_attentions = [x], [], []  # the stream is kept only where it was asked for
        for i, block in enumerate(self.blocks):
            own = near if block.has_window else full
            x, weights, cross_weights = block(x, cache=None if cache is None else cache.layer(i), **own, **shared)
            if need_hidden:
                hidden.append(x)
            attentions.append(weights)
            cross_attentions.append(cross_weights)
        if cache is not None:
            cache.advance(q_len)
        return Output(
            last_hidden_state=self.final_norm(x),
            hidden_states=tuple(hidden) if need_hidden else None,
            attentions=tuple(attentions) if need_weights else None,
            cross_attentions=tuple(cross_attentions) if need_weights and memory is not None else None,
        )

    @property
    def _reads_in_order(self) -> bool:
        """Whether parts other than attention read earlier positions, past every mask."""
        return self.config.conv_width is not None or any(self.config.mixers)

    def _window(self, mask, q_len: int, k_len: int, device) -> Bool[Tensor, "..."] | None:
        """The mask of layers with a window, where it hides anything and no other mask was given."""
        window = self.config.sliding_window
        if mask is not None or k_len <= window:
            return mask
        return sliding_window_mask(q_len, k_len, window=window, device=device)

    def _may_attend(self, attention_mask, mask, k_len: int) -> Bool[Tensor, "..."] | None:
        """Who may read whom, beyond the causal rule that ``attend`` adds itself; None for everyone."""
        if attention_mask is None:
            return mask
        real = padding_mask(attention_mask[:, -k_len:])  # [B, 1, 1, S]
        return real if mask is None else mask & real

    def _positions(self, given: Tensor, attention_mask, n_past: int) -> Int[Tensor, "B T"]:
        """Where each token stands: real tokens count from 0, padding is not counted."""
        batch, q_len = given.shape[:2]
        k_len = n_past + q_len
        if self.config.positions == "learned" and k_len > self.config.max_seq_len:
            raise ValueError(
                f"a sequence of {k_len} tokens does not fit: learned positions end at "
                f"max_seq_len={self.config.max_seq_len}; shorten it or choose another scheme"
            )
        if attention_mask is None:
            return torch.arange(n_past, k_len, device=given.device).expand(batch, q_len)
        if attention_mask.shape != (batch, k_len):
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; it must cover all {k_len} positions of "
                f"{batch} sequences, those in the cache included"
            )
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, n_past:]


def make_rotary(config: TransformerConfig) -> tuple[Rotary | None, Rotary | None]:
    """The rotary positions of the model and, where they are others, those of layers with a window."""
    if config.positions != "rope":
        return None, None
    rotary = Rotary(d_head=config.d_rotary, base=config.rope_theta, scaling=config.rope_scaling)
    base = config.window_rope_theta
    return rotary, None if base is None else Rotary(d_head=config.d_rotary, base=base)


def vocab_projection(config: TransformerConfig, tokens: nn.Embedding) -> Linear:
    """From the stream to a logit for every token; with ``tie_embeddings`` through the token table itself
    (https://arxiv.org/abs/1608.05859)."""
    layer = Linear(config.d_model, config.vocab_size, bias=False)
    nn.init.normal_(layer.weight, std=config.init_std)
    if config.tie_embeddings:
        layer.weight = tokens.weight
    return layer


def vocab_logits(model: nn.Module, x: Float[Tensor, "*P C"]) -> Float[Tensor, "*P V"]:
    """How every model here reads its last states out: ``lm_head``, behind ``logit_scale`` where that is not 1, and
    bounded by ``logit_cap`` where there is one.

    A function of the model and not a layer of its own kind: ``lm_head`` may be replaced, by a quantised one or one
    that is adapted, and the scale must outlive that.
    """
    scale = model.config.logit_scale
    return capped(model.lm_head(x if scale == 1 else x * scale), model.config.logit_cap)
