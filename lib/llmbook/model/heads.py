"""What an encoder is read out for: a word behind each mask, a class for a text or for each token, one vector.

Every model here takes the arguments of ``Encoder`` and answers with ``Output.logits``. A pair of sentences is one
sequence whose ``segment_ids`` say which token belongs to which (https://arxiv.org/abs/1810.04805).
"""

from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.backbone import AttentionMask, Backbone, Output, vocab_logits
from llmbook.model.config import TransformerConfig
from llmbook.model.counted import Counted
from llmbook.model.language_model import LanguageModel
from llmbook.model.layers import ACTIVATIONS
from llmbook.model.linear import Linear
from llmbook.model.norms import make_norm
from llmbook.model.transformer import Encoder

Pooling = Literal["cls", "mean", "max", "last"]


def pool(
    hidden: Float[Tensor, "B T C"], attention_mask: AttentionMask | None = None, *, pooling: str = "mean"
) -> Float[Tensor, "B C"]:
    """One vector for a sequence: of its first real token ("cls"), its last, or the mean or maximum over all.

    Padding, where ``attention_mask`` is 0, does not count.

    Raises:
        ValueError: the way is unknown, or a row has no real token.
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling={pooling!r} is not one of {', '.join(map(repr, get_args(Pooling)))}")
    if attention_mask is None:
        real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    elif not (real := attention_mask.bool()).any(1).all():  # the one look that makes a CPU wait for its GPU
        raise ValueError(f"row {int((~real.any(1)).nonzero()[0])} has no real token: nothing to pool")
    if pooling == "mean":
        return hidden.masked_fill(~real[..., None], 0).sum(1) / real.sum(1, keepdim=True)
    if pooling == "max":
        return hidden.masked_fill(~real[..., None], -torch.inf).amax(1)
    position = torch.arange(real.shape[1], device=hidden.device)
    if pooling == "cls":
        index = position.masked_fill(~real, real.shape[1]).amin(1)  # [B]
    else:
        index = position.masked_fill(~real, -1).amax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), index]


class MaskedLM(LanguageModel):
    """An encoder that guesses the token at each position from both sides (BERT's head).

    The guess goes through one more layer and norm before it meets the token table, and has a bias per token.
    """

    token_table = "encoder.embeddings.tokens"

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.transform = Linear(config.d_model, config.d_model)
        self.activation = ACTIVATIONS["gelu"]
        self.norm = make_norm(config)
        self.lm_head = Linear(config.d_model, config.vocab_size)
        for layer in (self.transform, self.lm_head):
            nn.init.normal_(layer.weight, std=config.init_std)
            nn.init.zeros_(layer.bias)
        if config.tie_embeddings:
            self.lm_head.weight = self.encoder.embeddings.tokens.weight

    def forward(self, *inputs, at: Bool[Tensor, "B T"] | None = None, **keywords) -> Output:
        """Logits [B, T, V] for the token *at* each position, or [N, V] for the N positions where ``at`` is True.

        The other arguments are those of ``Encoder``.
        """
        out = self.encoder(*inputs, **keywords)
        state = out.last_hidden_state if at is None else out.last_hidden_state[at]
        guess = self.norm(self.activation(self.transform(state)))
        return replace(out, logits=vocab_logits(self, guess))


class SequenceClassifier(Counted):
    """One label for a text or a pair of texts: pool, and where ``pooler_layer`` is set BERT's tanh layer, then project.

    ``encoder`` may be trained already, and causal (a language model's backbone); it is used as it is.
    """

    def __init__(
        self,
        encoder: Backbone,
        *,
        n_labels: int,
        pooling: Pooling = "cls",
        pooler_layer: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.config, self.encoder, self.pooling = encoder.config, encoder, pooling
        self.pooler = Linear(self.config.d_model, self.config.d_model) if pooler_layer else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = Linear(self.config.d_model, _labels(n_labels))
        _initialise(self, self.pooler, self.classifier)

    def forward(self, *inputs, attention_mask: AttentionMask | None = None, **keywords) -> Output:
        """Logits [B, n_labels]; the arguments are those of ``Encoder``."""
        out = self.encoder(*inputs, attention_mask=attention_mask, **keywords)
        vector = pool(out.last_hidden_state, attention_mask, pooling=self.pooling)  # [B, C]
        if self.pooler is not None:
            vector = self.pooler(vector).tanh()
        return replace(out, logits=self.classifier(self.dropout(vector)))


class TokenClassifier(Counted):
    """A label for every token: names, parts of speech, answers."""

    def __init__(self, encoder: Backbone, *, n_labels: int, dropout: float = 0.0):
        super().__init__()
        self.config, self.encoder = encoder.config, encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = Linear(self.config.d_model, _labels(n_labels))
        _initialise(self, self.classifier)

    def forward(self, *inputs, **keywords) -> Output:
        """Logits [B, T, n_labels]; the arguments are those of ``Encoder``."""
        out = self.encoder(*inputs, **keywords)
        return replace(out, logits=self.classifier(self.dropout(out.last_hidden_state)))


def _labels(n_labels: int) -> int:
    if n_labels < 1:
        raise ValueError(f"n_labels={n_labels}: a classifier needs at least one label")
    return n_labels


def _initialise(model: nn.Module, *layers: nn.Linear | None) -> None:
    for layer in layers:
        if layer is not None:
            nn.init.normal_(layer.weight, std=model.config.init_std)
            nn.init.zeros_(layer.bias)
