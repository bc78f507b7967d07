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
from torch import Tensor

from llmbook.model.config import Backend
from llmbook.model.masks import causal_mask

BACKENDS: tuple[Backend, ...] = get_args(Backend)


def eager_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H S D"],
    v: Float[Tensor, "B H S Dv"],
    *,
    allowed: Bool[Tensor, "..."] | None,
    fully_masked: Bool[Tensor, "..."] | None,
    bias: Float[Tensor, "..."] | None,
    scale: float,
    cap: float | None,
    dropout: float,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T S"]]:
    """The formula; also returns the weights, before dropout.

    ``allowed`` [T, S] is True where a query may attend, ``fully_masked`` [T, 1] where it may
    nowhere. These two and ``bias`` may have leading axes for batch and heads. ``cap`` bounds
    the scores where a model has such a bound.
    """
    scores = (q * scale) @ k.transpose(-2, -1)  # [B, H, T, S]
    if cap is not None:
        scores = capped(scores, cap)
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        barrier = torch.zeros_like(allowed, dtype=scores.dtype)
        scores = scores + barrier.masked_fill(~allowed, -math.inf)
    weights = scores.softmax(dim=-1)
    if fully_masked is not None:  # such a query was allowed every key, because a softmax over -inf alone is NaN
        weights = weights.masked_fill(fully_masked, 0.0)
    kept = F.dropout(weights, dropout) if dropout else weights  # 0 would still copy
    return kept.to(v.dtype) @ v, weights  # a bias in float32 has widened the scores


def sdpa_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hk S D"],
    v: Float[Tensor, "B Hk S Dv"],
    *,
    mask: Bool[Tensor, "..."] | None,
    bias: Float[Tensor, "..."] | None,
    causal: bool,
    scale: float,
    dropout: float,
) -> Float[Tensor, "B H T Dv"]:
    """The same through PyTorch's fused kernels, which keep the weights to themselves.

    The two cases that come most, a new token and a whole causal sequence, need no mask written out.
    """
    n_heads, q_len, plain = q.shape[1], q.shape[2], mask is None and bias is None
    if plain and q_len == 1 and n_heads > k.shape[1]:
        # One new token: heads that share keys are as many queries of one head, so no key need be copied.
        queries = q.reshape(q.shape[0], k.shape[1], n_heads // k.shape[1], q.shape[3])  # [B, Hk, H / Hk, D]
        mixed = F.scaled_dot_product_attention(queries, k, v, dropout_p=dropout, scale=scale)
        return mixed.reshape(*q.shape[:3], v.shape[3])
    k, v = _for_each_head(n_heads, k, v)
    if plain and causal and q_len == k.shape[2]:
        # The kernel's own causal rule aligns the first query with the first key: right only when T = S.
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, scale=scale)
    allowed, fully_masked = _who_reads_what(q, k, mask, causal)
    attn_mask = allowed
    if bias is not None:
        attn_mask = bias if allowed is None else torch.where(allowed, bias.to(q.dtype), -math.inf)
    if attn_mask is not None:
        attn_mask = torch.atleast_2d(attn_mask)  # the kernel broadcasts, but over axes that are there
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout, scale=scale)
    return mixed if fully_masked is None else mixed.masked_fill(fully_masked, 0.0)


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hk S D"],
    v: Float[Tensor, "B Hk S Dv"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
    cap: float | None = None,
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
        cap: bounds the scaled scores, before the bias, as ``capped`` does. The fused kernels cannot: the formula is
            computed in their place.
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
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if backend == "sdpa" and cap is None:
        return sdpa_attention(q, k, v, mask=mask, bias=bias, causal=causal, scale=scale, dropout=dropout), None
    k, v = _for_each_head(q.shape[1], k, v)
    allowed, fully_masked = _who_reads_what(q, k, mask, causal)
    mixed, weights = eager_attention(
        q, k, v, allowed=allowed, fully_masked=fully_masked, bias=bias, scale=scale, cap=cap, dropout=dropout
    )
    return mixed, (weights if need_weights else None)


def capped(x: Float[Tensor, "*P N"], cap: float | None) -> Float[Tensor, "*P N"]:
    """Every number of ``x`` pressed between -cap and cap by cap · tanh(x / cap) (https://arxiv.org/abs/2408.00118)."""
    return x if cap is None else cap * (x / cap).tanh()


def _for_each_head(n_heads: int, k, v) -> tuple[Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"]]:
    """Keys and values repeated for the query heads that share them, which are neighbours."""
    groups = n_heads // k.shape[1]
    return (k, v) if groups == 1 else (k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1))


def _who_reads_what(q, k, mask, causal) -> tuple[Bool[Tensor, "..."] | None, Bool[Tensor, "..."] | None]:
    """``allowed``, from ``mask`` and the causal rule (None: all), and ``fully_masked``: queries with no key left.

    A fully masked query may attend to everything here, and its output is set to zero at the end. With every key
    forbidden its softmax would be 0/0, and that NaN would reach every gradient, even through an output set to zero.
    """
    q_len, k_len = q.shape[2], k.shape[2]
    allowed = mask
    if causal and q_len > 1:  # the last position may read everything anyway
        past = causal_mask(q_len, k_len, device=q.device)
        allowed = past if mask is None else mask & past
    if mask is None:  # the causal rule leaves every query itself
        return allowed, None
    fully_masked = ~allowed.any(-1, keepdim=True)  # [..., T, 1]
    return allowed | fully_masked, fully_masked
