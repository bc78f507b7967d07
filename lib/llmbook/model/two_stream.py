r"""Read the tokens of a text in any order: two-stream attention (XLNet, https://arxiv.org/abs/1906.08237, §2.3).

The token at a place is to be predicted from those earlier in an order z, which need not be left to right. Ordinary
attention cannot say this: the vector at a place that others read must contain its token, the vector that predicts the
token must not, and yet must know which place it is to predict. So there are two vectors at every place:

    content  h   knows its token;      reads h at places up to its own in the order
    query    g   knows its place only; reads h at places before its own in the order; gives the logits

Both go through the *same* blocks. The choice this file makes: the two streams are one sequence of 2T vectors, h then
g, under one mask, so that attention, norms, feed-forward nets and every scheme of positions are those of ``Block``.

               keys h    keys g
    queries h  up to     nothing
    queries g  before    nothing

That computes some keys that no query reads; a kernel written for it would skip them and be harder to read. The first
place in the order reads nothing (0 from ``attend``) and is predicted from its place alone.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmbook.model.backbone import AttentionMask, Backbone, Output, vocab_logits, vocab_projection
from llmbook.model.config import TransformerConfig
from llmbook.model.language_model import LanguageModel
from llmbook.model.masks import padding_mask


def order_ranks(order: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """When each place is read: the inverse of ``order``, which says which place is read when."""
    return order.argsort(dim=1)


def two_stream_mask(order: Int[Tensor, "B T"]) -> Bool[Tensor, "B 1 TT TT"]:
    """Who may read whom among the content vectors of T places and, after them, their query vectors (TT = 2T)."""
    rank = order_ranks(order)
    reader, read = rank[:, :, None], rank[:, None, :]
    to_content = torch.cat((read <= reader, read < reader), dim=1)  # [B, 2T, T]
    return torch.cat((to_content, torch.zeros_like(to_content)), dim=2)[:, None]


class TwoStreamLM(LanguageModel):
    """p(token at a place | tokens earlier in an order), as logits at every place.

    Raises ValueError for a sliding window.
    """

    token_table = "backbone.embeddings.tokens"

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        if config.sliding_window is not None:
            raise ValueError(f"sliding_window={config.sliding_window}: a distance means nothing in an arbitrary order")
        self.backbone = Backbone(config, causal=False)
        self.query = nn.Parameter(torch.randn(config.d_model) * config.init_std)  # stands for the unknown token
        self.lm_head = vocab_projection(config, self.backbone.embeddings.tokens)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        *,
        order: Int[Tensor, "B T"],
        attention_mask: AttentionMask | None = None,
    ) -> Output:
        """Logits [B, T, V] for the token *at* each place; the arguments are those of ``streams``."""
        _, query = self.streams(input_ids, order=order, attention_mask=attention_mask)
        return Output(logits=vocab_logits(self, query), last_hidden_state=query)

    def streams(
        self,
        input_ids: Int[Tensor, "B T"],
        *,
        order: Int[Tensor, "B T"],
        attention_mask: AttentionMask | None = None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B T C"]]:
        """The last states of the content stream and of the query stream.

        Args:
            order: row b is a permutation of 0 … T − 1; ``order[b, i]`` is the place read as number i.
            attention_mask: 1 or True on real tokens; no place reads padding.

        Raises:
            ValueError: a row of ``order`` is not a permutation of the places.
        """
        n_places = input_ids.shape[1]
        places = torch.arange(n_places, device=input_ids.device).expand_as(input_ids)
        if order.shape != input_ids.shape or not torch.equal(order.sort(dim=1).values, places):
            raise ValueError(f"each row of order must hold every place from 0 to {n_places - 1} once, as input_ids has")
        mask, positions = two_stream_mask(order), places
        if attention_mask is not None:
            mask = mask & padding_mask(attention_mask.repeat(1, 2))
            positions = (attention_mask.long().cumsum(1) - 1).clamp(min=0)
        backbone = self.backbone
        content = backbone.embeddings(input_ids, positions)  # [B, T, C]
        query = backbone.embeddings(None, positions, inputs_embeds=self.query.expand_as(content))
        x = torch.cat((content, query), dim=1)  # [B, 2T, C]
        bias = None if backbone.position_bias is None else backbone.position_bias(n_places, n_places).repeat(1, 1, 2, 2)
        angles = None if backbone.rotary is None else backbone.rotary(positions.repeat(1, 2))
        for block in backbone.blocks:
            x, *_ = block(x, mask=mask, bias=bias, angles=angles)
        content, query = backbone.final_norm(x).chunk(2, dim=1)
        return content, query
