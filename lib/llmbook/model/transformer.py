"""Whole models: a body of stacked blocks, an encoder and a decoder language model.

    input_ids ── embeddings ── block × L ── norm ──┬── hidden states                     (Encoder)
      [B, T]      [B, T, C]     [B, T, C]          └── W_vocab ── logits [B, T, V]       (DecoderLM)

The choice this file makes: one body for both; an encoder is the same stack without the causal rule. A model
returns logits, and hidden states and attentions on request. Losses live with training, the cache is an argument.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmbook.model.cache import KVCache
from llmbook.model.config import TransformerConfig
from llmbook.model.layers import Block, make_norm
from llmbook.model.masks import padding_mask
from llmbook.model.position_bias import AlibiBias, T5Bias
from llmbook.model.position_embeddings import LearnedPositions, SinusoidalPositions
from llmbook.model.rotary import Rotary

AttentionMask = Bool[Tensor, "B S"] | Int[Tensor, "B S"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a forward pass gives back; what was not asked for is None.

    Attributes:
        logits: [B, T, V], unnormalised log-probabilities of the next token (language models).
        last_hidden_state: [B, T, C], after the last norm.
        hidden_states: L + 1 tensors [B, T, C]: the embeddings, then the stream after each block.
        attentions: L tensors of weights [B, H, T, S].
    """

    logits: Tensor | None = None
    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Embeddings(nn.Module):
    """A vector for each token, plus one for its position and its segment where the model has them."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = {
            "learned": lambda: LearnedPositions(max_seq_len=config.max_seq_len, d_model=config.d_model),
            "sinusoidal": lambda: SinusoidalPositions(d_model=config.d_model),
        }.get(config.positions, lambda: None)()
        self.segments = nn.Embedding(config.n_segments, config.d_model) if config.n_segments else None
        self.norm = make_norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        positions: Int[Tensor, "B T"],
        segment_ids: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        x = self.tokens(input_ids)
        if self.positions is not None:
            x = x + self.positions(positions)
        if self.segments is not None:
            x = x + self.segments(torch.zeros_like(input_ids) if segment_ids is None else segment_ids)
        return self.dropout(self.norm(x))


class Body(nn.Module):
    """Embeddings, L blocks and (pre-norm only) a last norm; ``causal`` says whether the future is hidden."""

    def __init__(self, config: TransformerConfig, *, causal: bool):
        super().__init__()
        self.config, self.causal = config, causal
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = make_norm(config) if config.norm_position == "pre" else nn.Identity()
        self.position_bias = {
            "alibi": lambda: AlibiBias(n_heads=config.n_heads),
            "t5": lambda: T5Bias(n_heads=config.n_heads, bidirectional=not causal),
        }.get(config.positions, lambda: None)()
        rope = config.positions == "rope"
        self.rotary = (
            Rotary(d_head=config.d_head, base=config.rope_theta, scaling=config.rope_scaling) if rope else None
        )
        initialise(self, config)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        *,
        attention_mask: AttentionMask | None = None,
        segment_ids: Int[Tensor, "B T"] | None = None,
        cache: KVCache | None = None,
        need_weights: bool = False,
        need_hidden: bool = False,
    ) -> Output:
        n_past = 0 if cache is None else cache.length
        positions = self._positions(input_ids, attention_mask, n_past)  # [B, T]
        x = self.embeddings(input_ids, positions, segment_ids)  # [B, T, C]
        q_len, k_len = input_ids.shape[1], n_past + input_ids.shape[1]
        shared = dict(
            mask=None if attention_mask is None else padding_mask(attention_mask),
            bias=None if self.position_bias is None else self.position_bias(q_len, k_len),
            angles=None if self.rotary is None else self.rotary(positions),
            causal=self.causal,
            need_weights=need_weights,
        )
        hidden, attentions = [x], []
        for i, block in enumerate(self.blocks):
            x, weights = block(x, cache=None if cache is None else cache.layer(i), **shared)
            hidden.append(x)
            attentions.append(weights)
        if cache is not None:
            cache.advance(q_len)
        return Output(
            last_hidden_state=self.final_norm(x),
            hidden_states=tuple(hidden) if need_hidden else None,
            attentions=tuple(attentions) if need_weights else None,
        )

    def _positions(self, input_ids, attention_mask, n_past: int) -> Int[Tensor, "B T"]:
        """Where each token stands: real tokens count from 0, padding is not counted."""
        batch, q_len = input_ids.shape
        k_len = n_past + q_len
        if self.config.positions == "learned" and k_len > self.config.max_seq_len:
            raise ValueError(
                f"a sequence of {k_len} tokens does not fit: learned positions end at "
                f"max_seq_len={self.config.max_seq_len}; shorten it or choose another scheme"
            )
        if attention_mask is None:
            return torch.arange(n_past, k_len, device=input_ids.device).expand(batch, q_len)
        if attention_mask.shape != (batch, k_len):
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; it must cover all {k_len} positions of "
                f"{batch} sequences, those in the cache included"
            )
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, n_past:]


class DecoderLM(nn.Module):
    """A causal language model: p(next token | all before it), as logits at every position.

    With ``tie_embeddings`` the output projection is the token table itself (https://arxiv.org/abs/1608.05859).
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.body = Body(config, causal=True)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=config.init_std)
        if config.tie_embeddings:
            self.lm_head.weight = self.body.embeddings.tokens.weight

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        *,
        attention_mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        need_weights: bool = False,
        need_hidden: bool = False,
    ) -> Output:
        """Logits for the token after each position.

        Args:
            input_ids: token numbers below ``vocab_size``.
            attention_mask: 1 or True on real tokens, over cached and new positions alike; pad on the left.
            cache: memory of earlier tokens, appended to; ``input_ids`` then holds only the new ones.
            need_weights: also return every layer's attention weights (through the eager backend).
            need_hidden: also return the residual stream after every block.

        Raises:
            ValueError: the sequence is longer than learned positions or the cache allow, or the mask does not fit.
        """
        out = self.body(
            input_ids,
            attention_mask=attention_mask,
            cache=cache,
            need_weights=need_weights,
            need_hidden=need_hidden,
        )
        return Output(
            logits=self.lm_head(out.last_hidden_state),
            last_hidden_state=out.last_hidden_state,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )

    def num_parameters(self) -> int:
        """How many numbers training adjusts; a tied table counts once."""
        return sum(p.numel() for p in self.parameters())


class Encoder(Body):
    """A bidirectional reader: a vector [C] for every token that has seen the whole sequence."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config, causal=False)

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


def initialise(module: nn.Module, config: TransformerConfig) -> None:
    """GPT-2's initialisation: normal with ``init_std``, biases 0, and the two projections that write into the
    residual stream divided by sqrt(2 L), so that the stream does not grow with depth."""
    for name, part in module.named_modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            writes_to_stream = name.endswith(("o_proj", "down_proj"))
            shrink = math.sqrt(2 * config.n_layers) if writes_to_stream else 1.0
            nn.init.normal_(part.weight, std=config.init_std / shrink)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
