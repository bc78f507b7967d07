"""Where token numbers become vectors: the first station of every model here."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.config import TransformerConfig
from llmbook.model.norms import make_norm
from llmbook.model.position_embeddings import make_positions


class Embeddings(nn.Module):
    """A vector for each token, plus one for its position and its segment where the model has them."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = make_positions(config)
        self.segments = nn.Embedding(config.n_segments, config.d_model) if config.n_segments else None
        self.norm = make_norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"] | None,
        positions: Int[Tensor, "B T"],
        *,
        segment_ids: Int[Tensor, "B T"] | None = None,
        inputs_embeds: Float[Tensor, "B T C"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        x = self._look_up(input_ids) if inputs_embeds is None else inputs_embeds
        if self.config.scale_embeddings:
            x = x * math.sqrt(self.config.d_model)
        if self.positions is not None:
            x = x + self.positions(positions).to(x.dtype)  # sinusoids are computed in float32
        if self.segments is not None:
            x = x + self.segments(torch.zeros_like(positions) if segment_ids is None else segment_ids)
        return self.dropout(self.norm(x))

    def _look_up(self, input_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """The tokens' vectors. Raises ValueError for a number that is no token, where the table notices (on a CPU)."""
        try:
            return self.tokens(input_ids)
        except IndexError:
            raise no_token(input_ids, self.config.vocab_size) from None


def no_token(input_ids: Int[Tensor, "B T"], n: int) -> ValueError:
    """What to say of ``input_ids`` that are not all below ``vocab_size`` n."""
    strangers = input_ids[(input_ids < 0) | (input_ids >= n)]
    return ValueError(
        f"input_ids holds {strangers.unique().tolist()[:5]}, but vocab_size={n} has tokens 0 … {n - 1}: did "
        "another model's tokenizer encode the text?"
    )
