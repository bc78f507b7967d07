r"""Attention, once: a formula to read and a kernel to run, behind one function.

``attend`` computes scaled dot-product attention (https://arxiv.org/abs/1706.03762, §3.2.1)

$$\mathrm{attend}(Q, K, V) = \mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{D}} + \text{bias}\right) V$$

over [B, H, T, D]. Every scheme of masking arrives as a boolean ``mask`` (True = may attend) and every scheme of
relative positions as a float ``bias``, so callers never branch on either. ``backend="eager"`` is the formula line
by line and can return the weights; ``backend="sdpa"`` hands the same to PyTorch's fused kernels. A query that may
attend to nothing gets 0 from both (a plain softmax would give NaN).
"""

import math
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.cache import LayerCache
from llmbook.model.config import Backend
from llmbook.model.linear import Linear
from llmbook.model.masks import causal_mask
from llmbook.model.norms import RMSNorm
from llmbook.model.rotary import rotate

BACKENDS: tuple[Backend, ...] = get_args(Backend)


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hk S D"],
    v: Float[Tensor, "B Hk S Dv"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: Backend = "sdpa",
    need_weights: bool = False,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T S"] | None]:
    """Mix the values by how well each query matches each key.

    Args:
        q, k, v: queries, keys, values; the key heads Hk divide the query heads H, each serving H / Hk of them.
        mask: True where a query may attend to a key; broadcasts to [B, H, T, S].
        bias: added to the scores; broadcasts to [B, H, T, S].
        causal: also forbid the future, the T queries being the last of the S positions.
        scale: multiplies the scores; 1/sqrt(D) unless given.
        dropout: probability with which a weight is dropped (training only: the caller passes 0 otherwise).
        backend: "sdpa" (fused) or "eager" (the formula).
        need_weights: also return the weights [B, H, T, S], before dropout; eager only.

    Returns:
        The mixture [B, H, T, Dv] and the weights, or None in their place.

    Raises:
        ValueError: head counts do not match, the mask is not boolean, the backend is unknown or cannot return weights.
    """
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads cannot share {k.shape[1]} key heads: not a multiple")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not one of {', '.join(map(repr, BACKENDS))}")
    if need_weights and backend == "sdpa":
        raise ValueError("backend='sdpa' never holds the weights; ask for them with backend='eager'")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask holds {mask.dtype}: give True where a query may attend to a key, such as mask == 1")
    groups = q.shape[1] // k.shape[1]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if backend == "sdpa" and groups > 1 and q.shape[2] == 1 and mask is None and bias is None:
        # One new token: heads that share keys are as many queries of one head, so no key need be copied.
        queries = q.reshape(q.shape[0], k.shape[1], groups, q.shape[3])  # [B, Hk, H / Hk, D]
        mixed = F.scaled_dot_product_attention(queries, k, v, dropout_p=dropout, scale=scale)
        return mixed.reshape(*q.shape[:3], v.shape[3]), None
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)  # [B, H, S, D]
    if backend == "sdpa" and causal and mask is None and bias is None and q.shape[2] == k.shape[2]:
        # The kernel's own causal rule aligns the first query with the first key: right only when T = S.
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, scale=scale), None
    allowed, blind = _allowed(q, k, mask, causal), None
    if mask is not None:
        blind = ~allowed.any(-1, keepdim=True)  # queries that may read nothing:
        allowed = allowed | blind  # let them read anything, then erase what they read
    if backend == "sdpa":
        return sdpa_attention(q, k, v, allowed, blind, bias, scale, dropout), None
    mixed, weights = eager_attention(q, k, v, allowed, blind, bias, scale, dropout)
    return mixed, (weights if need_weights else None)


def eager_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H S D"],
    v: Float[Tensor, "B H S Dv"],
    allowed: Bool[Tensor, "..."] | None,
    blind: Bool[Tensor, "..."] | None,
    bias: Float[Tensor, "..."] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T S"]]:
    """The formula; ``allowed`` [T, S] is True where a query may attend, ``blind`` [T, 1] where it may nowhere.

    These two and ``bias`` may have leading axes for batch and heads. Also returns the weights, before dropout.
    """
    scores = (q * scale) @ k.transpose(-2, -1)  # [B, H, T, S]
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        barrier = torch.zeros_like(allowed, dtype=scores.dtype).masked_fill(~allowed, -math.inf)
        scores = scores + barrier
    weights = scores.softmax(dim=-1)
    if blind is not None:
        weights = weights.masked_fill(blind, 0.0)
    kept = F.dropout(weights, dropout) if dropout else weights  # 0 would still copy
    return kept.to(v.dtype) @ v, weights  # a bias in float32 has widened the scores


def sdpa_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H S D"],
    v: Float[Tensor, "B H S Dv"],
    allowed: Bool[Tensor, "..."] | None,
    blind: Bool[Tensor, "..."] | None,
    bias: Float[Tensor, "..."] | None,
    scale: float,
    dropout: float,
) -> Float[Tensor, "B H T Dv"]:
    """The same through PyTorch's fused kernels, which keep the weights to themselves."""
    attn_mask = allowed
    if bias is not None:
        attn_mask = bias if allowed is None else torch.where(allowed, bias.to(q.dtype), -math.inf)
    if attn_mask is not None:
        attn_mask = torch.atleast_2d(attn_mask)  # the kernel broadcasts, but over axes that are there
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout, scale=scale)
    return mixed if blind is None else mixed.masked_fill(blind, 0.0)


def _allowed(q, k, mask, causal) -> Bool[Tensor, "..."] | None:
    """``mask`` and the causal rule as one boolean tensor; None when everything is allowed."""
    q_len, k_len = q.shape[2], k.shape[2]
    if not causal or q_len == 1:  # the last position may read everything anyway
        return mask
    past = causal_mask(q_len, k_len, device=q.device)
    return past if mask is None else mask & past


class MultiHeadAttention(nn.Module):
    r"""Project, attend in ``n_heads`` subspaces at once, project back (https://arxiv.org/abs/1706.03762, §3.2.2).

    $$\mathrm{head}_h = \mathrm{attend}(XW^Q_h,\; YW^K_h,\; YW^V_h) \qquad
      \mathrm{MHA}(X, Y) = [\mathrm{head}_1 \dots \mathrm{head}_H]\,W^O$$

    with Y = X for self-attention and Y = ``context`` for cross-attention. With ``n_kv_heads`` below ``n_heads``
    several query heads share one key and value head (grouped queries, https://arxiv.org/abs/2305.13245).
    ``qk_norm`` normalises each query and key before they meet (https://arxiv.org/abs/2010.04245).
    Raises ValueError if ``n_heads`` is no divisor of ``d_model`` (and ``d_head`` not given) or no multiple of
    ``n_kv_heads``.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        scale: float | None = None,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        backend: Backend = "sdpa",
    ):
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_head is None and d_model % n_heads:
            raise ValueError(f"d_model={d_model} is not divisible by n_heads={n_heads}; change one or give d_head")
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads={n_heads} is not a multiple of n_kv_heads={n_kv_heads}")
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads
        self.d_head = d_model // n_heads if d_head is None else d_head
        self.dropout, self.scale, self.backend = dropout, scale, backend
        self.q_proj = Linear(d_model, n_heads * self.d_head, bias=bias)
        self.k_proj = Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = Linear(n_heads * self.d_head, d_model, bias=bias)
        self.q_norm = RMSNorm(self.d_head, eps=norm_eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.d_head, eps=norm_eps) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        context: Float[Tensor, "B S C"] | None = None,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
        causal: bool = False,
        angles: tuple[Tensor, Tensor] | None = None,
        cache: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T S"] | None]:
        """Attend from ``x`` to itself (and to what ``cache`` remembers), or to ``context``.

        Args:
            angles: cosines and sines [B, 1, T, D / 2] of this layer's rotary positions; self-attention only.
            cache: this layer's memory of earlier keys and values, appended to; of a ``context`` the keys and values
                are computed once and then taken from the cache.
            need_weights: also return the weights; this call then takes the eager backend.

        Raises:
            ValueError: ``context`` together with ``causal`` or ``angles``: those describe one sequence; or with a
                cache that keeps one sequence only.
        """
        if context is not None and (causal or angles is not None):
            raise ValueError("cross-attention reads another sequence: causal and angles have no meaning there")
        q = self.q_norm(self._heads(self.q_proj(x), self.n_heads))  # [B, H, T, D]
        if context is None:
            k, v = self.keys_and_values(x)  # [B, Hk, T, D]
            if angles is not None:
                q, k = rotate(q, *angles), rotate(k, *angles)
            if cache is not None:
                k, v = cache.append(k, v)  # [B, Hk, S, D]
        elif cache is None:
            k, v = self.keys_and_values(context)  # [B, Hk, S, D]
        elif not hasattr(cache, "remember"):
            raise ValueError(f"{type(cache).__name__} cannot keep the keys of a second sequence: use a KVCache")
        else:
            k, v = cache.remember(lambda: self.keys_and_values(context))
        mixed, weights = attend(
            q, k, v, mask=mask, bias=bias, causal=causal,
            scale=self.scale, dropout=self.dropout if self.training else 0.0,
            backend="eager" if need_weights else self.backend, need_weights=need_weights,
        )  # fmt: skip
        mixed = mixed.transpose(1, 2).flatten(2)  # [B, H, T, D] -> [B, T, H·D]
        return self.o_proj(mixed), weights

    def keys_and_values(
        self, source: Float[Tensor, "B S C"]
    ) -> tuple[Float[Tensor, "B Hk S D"], Float[Tensor, "B Hk S D"]]:
        """What ``source`` offers to be read: a key to be found by and a value to be taken."""
        k = self.k_norm(self._heads(self.k_proj(source), self.n_kv_heads))
        return k, self._heads(self.v_proj(source), self.n_kv_heads)

    def _heads(self, x: Float[Tensor, "B T HD"], n_heads: int) -> Float[Tensor, "B H T D"]:
        return x.unflatten(-1, (n_heads, self.d_head)).transpose(1, 2)
