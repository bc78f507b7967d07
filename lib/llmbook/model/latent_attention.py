r"""Latent attention: keys and values of all heads are made from one short vector, and only that is remembered.

DeepSeek-V2's multi-head latent attention (https://arxiv.org/abs/2405.04434, §2.1) without its rotary part:

$$c_t = \mathrm{norm}(x_t W^{D}) \qquad k_t = c_t W^{K} \qquad v_t = c_t W^{V}$$

with $c_t$ of width ``d_latent``, and attention over these keys and values. Because $q \cdot (c W^K_h) = (q W_h^{K\top})
\cdot c$ for head h, it is also attention with one shared key head of width ``d_latent`` and one query head for each h;
this layer computes keys and values from the latents, which is the faster way for a whole text.

The paper adds a few rotary numbers, kept apart from the latents; here positions come with the stream.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.attention import attend
from llmbook.model.cache import LayerCache, StateCache
from llmbook.model.linear import Linear
from llmbook.model.linear_attention import state_of
from llmbook.model.norms import RMSNorm


class LatentAttention(nn.Module):
    """Causal attention in ``n_heads`` of ``d_head`` whose memory is ``d_latent`` numbers a position.

    ``k_up`` and ``v_up`` have no bias, so that they can be moved to the side of the query and of the mixture.
    """

    def __init__(
        self, *, d_model: int, n_heads: int, d_head: int, d_latent: int, bias: bool = True, norm_eps: float = 1e-5
    ):
        super().__init__()
        self.n_heads, self.d_head, self.d_latent = n_heads, d_head, d_latent
        self.q_proj = Linear(d_model, n_heads * d_head, bias=bias)
        self.kv_down = Linear(d_model, d_latent, bias=bias)
        self.latent_norm = RMSNorm(d_latent, eps=norm_eps)
        self.k_up, self.v_up = (Linear(d_latent, n_heads * d_head, bias=False) for _ in range(2))
        self.o_proj = Linear(n_heads * d_head, d_model, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        real: Bool[Tensor, "B T"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Read ``x``, and what ``cache`` remembers. Padding, where ``real`` is False, is not read.

        Raises:
            ValueError: the cache keeps keys and values alone, and not a state.
        """
        memory = state_of(cache)
        latents = self.latent_norm(self.kv_down(x))  # [B, T, R]
        if memory is not None:
            latents = _behind(memory, "latents", latents)  # [B, S, R]
            real = _behind(memory, "real", x.new_ones(x.shape[:2], dtype=torch.bool) if real is None else real)
        q, k, v = self._heads(self.q_proj(x)), self._heads(self.k_up(latents)), self._heads(self.v_up(latents))
        mixed, _ = attend(q, k, v, mask=None if real is None else real[:, None, None, :], causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Float[Tensor, "B T HD"]) -> Float[Tensor, "B H T D"]:
        return x.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)


def _behind(cache: StateCache, name: str, new: Tensor) -> Tensor:
    """What the cache keeps under ``name`` [B, S, …] with the new positions behind it, which is kept."""
    before = cache.recall(name)
    every = new if before is None else torch.cat([before, new], dim=1)
    cache.keep(name, every)
    return every
