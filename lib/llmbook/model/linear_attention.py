r"""Causal linear attention: what has been read is one matrix per head, whatever its length.

With $\phi(x) = \mathrm{elu}(x) + 1$, which is positive, in the place of the softmax (https://arxiv.org/abs/2006.16236):

$$S_t = S_{t-1} + \phi(k_t)\, v_t^\top \qquad z_t = z_{t-1} + \phi(k_t) \qquad
  y_t = \frac{S_t^\top \phi(q_t)}{z_t^\top \phi(q_t)}$$

with $S_t$ of shape [D, D] and $z_t$ of [D]. Positions are taken in chunks: inside one, the sum over earlier positions
is a masked product of queries and keys as in attention; what came before the chunk enters through the state. The cost
grows with the length, not with its square.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.cache import LayerCache, StateCache
from llmbook.model.linear import Linear

CHUNK = 64


def linear_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H T D"],
    v: Float[Tensor, "B H T D"],
    *,
    state: Float[Tensor, "B H D E"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H D E"]]:
    """The equations above for queries and keys that $\\phi$ has been applied to; the mixtures and the last state.

    Args:
        state: S and z of what was read before, side by side: E = D + 1 columns, z the last of them.
        chunk: how many positions are taken at once; the result does not depend on it.

    Raises:
        ValueError: ``chunk`` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: take at least one position at a time")
    values = F.pad(v, (0, 1), value=1.0)  # [B, H, T, E]: the sum of weights is the mixture of ones
    if state is None:
        state = values.new_zeros(*k.shape[:2], k.shape[3], values.shape[3])
    mixed = []
    for start in range(0, q.shape[2], chunk):
        part = slice(start, start + chunk)
        q_c, k_c, v_c = q[:, :, part], k[:, :, part], values[:, :, part]
        within = (q_c @ k_c.transpose(-1, -2)).tril() @ v_c  # [B, H, c, E]
        mixed.append(q_c @ state + within)
        state = state + k_c.transpose(-1, -2) @ v_c
    sums = torch.cat(mixed, dim=2)  # [B, H, T, E]
    return sums[..., :-1] / sums[..., -1:].clamp(min=torch.finfo(sums.dtype).tiny), state


def state_of(cache: LayerCache | None) -> StateCache | None:
    """The cache, as one that keeps a state. Raises ValueError for one that keeps keys and values alone."""
    if cache is None or isinstance(cache, StateCache):
        return cache
    raise ValueError(f"a {type(cache).__name__} keeps keys and values, not the state of a mixer: use a KVCache")


class LinearAttention(nn.Module):
    """Project, mix by ``linear_attention`` in every head, project back; the names are those of attention's layers."""

    def __init__(self, *, d_model: int, n_heads: int, d_head: int, bias: bool = True):
        super().__init__()
        self.n_heads, self.d_head = n_heads, d_head
        self.q_proj, self.k_proj, self.v_proj = (Linear(d_model, n_heads * d_head, bias=bias) for _ in range(3))
        self.o_proj = Linear(n_heads * d_head, d_model, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        real: Bool[Tensor, "B T"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Read ``x``, and what ``cache`` remembers. Keys of padding, where ``real`` is False, weigh nothing.

        Raises:
            ValueError: the cache keeps keys and values alone, and not a state.
        """
        memory = state_of(cache)
        q, k, v = (
            projection(x).unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H, T, D]
        q, k = F.elu(q) + 1, F.elu(k) + 1
        if real is not None:
            k = k * real[:, None, :, None]
        before = None if memory is None else memory.recall("linear")
        mixed, state = linear_attention(q, k, v, state=before)
        if memory is not None:
            memory.keep("linear", state)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))
