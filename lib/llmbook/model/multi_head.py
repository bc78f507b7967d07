"""The layer around ``attend``: what a query, a key and a value are made of, and where the mixtures go.

The choice this file makes: one class for self-attention and cross-attention; they differ in whose keys are read.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.attention import attend
from llmbook.model.cache import KeysValues, LayerCache
from llmbook.model.config import Backend
from llmbook.model.linear import Linear
from llmbook.model.norms import RMSNorm
from llmbook.model.rotary import rotate


class MultiHeadAttention(nn.Module):
    r"""Project, attend in ``n_heads`` subspaces at once, project back (https://arxiv.org/abs/1706.03762, §3.2.2).

    $$\mathrm{head}_h = \mathrm{attend}(XW^Q_h,\; YW^K_h,\; YW^V_h) \qquad
      \mathrm{MHA}(X, Y) = [\mathrm{head}_1 \dots \mathrm{head}_H]\,W^O$$

    with Y = X for self-attention and Y = ``context`` for cross-attention. With ``n_kv_heads`` below ``n_heads``
    several query heads share one key and value head (grouped queries, https://arxiv.org/abs/2305.13245).
    ``qk_norm`` normalises each query and key before they meet (https://arxiv.org/abs/2010.04245), each head by itself
    ("head") or all heads together ("all"). Queries, keys and values have biases as ``qkv_bias`` says, or else ``bias``.
    Raises ValueError if ``n_heads`` is no divisor of ``d_model`` (and ``d_head`` not given) or no multiple of
    ``n_kv_heads``, and for an unknown ``qk_norm``.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        bias: bool = True,
        qkv_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
        cap: float | None = None,
        qk_norm: Literal["head", "all"] | None = None,
        zero_centred_norm: bool = False,
        norm_eps: float = 1e-5,
        backend: Backend = "sdpa",
    ):
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_head is None and d_model % n_heads:
            raise ValueError(f"d_model={d_model} is not divisible by n_heads={n_heads}; change one or give d_head")
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads={n_heads} is not a multiple of n_kv_heads={n_kv_heads}")
        if qk_norm not in (None, "head", "all"):
            raise ValueError(f"qk_norm={qk_norm!r} is not one of None, 'head', 'all'")
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads
        self.d_head = d_model // n_heads if d_head is None else d_head
        self.dropout, self.scale, self.cap, self.backend = dropout, scale, cap, backend
        self.qk_norm = qk_norm
        qkv_bias = bias if qkv_bias is None else qkv_bias
        self.q_proj = Linear(d_model, n_heads * self.d_head, bias=qkv_bias)
        self.k_proj = Linear(d_model, n_kv_heads * self.d_head, bias=qkv_bias)
        self.v_proj = Linear(d_model, n_kv_heads * self.d_head, bias=qkv_bias)
        self.o_proj = Linear(n_heads * self.d_head, d_model, bias=bias)

        def norm(n: int) -> nn.Module:
            width = self.d_head * (n if qk_norm == "all" else 1)
            return RMSNorm(width, eps=norm_eps, zero_centred=zero_centred_norm) if qk_norm else nn.Identity()

        self.q_norm, self.k_norm = norm(n_heads), norm(n_kv_heads)

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
            angles: cosines and sines [B, 1, T, R] of this layer's rotary positions, which turn the first 2 R numbers of
                each head; self-attention only.
            cache: this layer's memory of earlier keys and values, appended to; of a ``context`` the keys and values
                are computed once and then taken from the cache.
            need_weights: also return the weights; this call then takes the eager backend.

        Raises:
            ValueError: ``context`` together with ``causal`` or ``angles``: those describe one sequence; or with a
                cache that keeps one sequence only.
        """
        if context is not None and (causal or angles is not None):
            raise ValueError("cross-attention reads another sequence: causal and angles have no meaning there")
        q = self._heads(self.q_proj(x), self.n_heads, self.q_norm)  # [B, H, T, D]
        if context is None:
            k, v = self.keys_and_values(x)  # [B, Hk, T, D]
            if angles is not None:
                q, k = rotate(q, *angles), rotate(k, *angles)
            if cache is not None:
                k, v = cache.append(k, v)  # [B, Hk, S, D]
        else:
            k, v = self._of_context(context, cache)  # [B, Hk, S, D]
        mixed, weights = attend(
            q, k, v, mask=mask, bias=bias, causal=causal,
            scale=self.scale, cap=self.cap, dropout=self.dropout if self.training else 0.0,
            backend="eager" if need_weights else self.backend, need_weights=need_weights,
        )  # fmt: skip
        mixed = mixed.transpose(1, 2).flatten(2)  # [B, H, T, D] -> [B, T, H·D]
        return self.o_proj(mixed), weights

    def keys_and_values(self, source: Float[Tensor, "B S C"]) -> KeysValues:
        """What ``source`` offers to be read: a key to be found by and a value to be taken."""
        k = self._heads(self.k_proj(source), self.n_kv_heads, self.k_norm)
        return k, self._heads(self.v_proj(source), self.n_kv_heads)

    def _of_context(self, context: Float[Tensor, "B S C"], cache: LayerCache | None) -> KeysValues:
        """Keys and values of the other sequence: the same at every step, so that a cache keeps them from the first."""
        if cache is None:
            return self.keys_and_values(context)
        if not hasattr(cache, "remember"):
            raise ValueError(f"{type(cache).__name__} cannot keep the keys of a second sequence: use a KVCache")
        return cache.remember(lambda: self.keys_and_values(context))

    def _heads(
        self, x: Float[Tensor, "B T HD"], n_heads: int, norm: nn.Module | None = None
    ) -> Float[Tensor, "B H T D"]:
        if norm is not None and self.qk_norm == "all":
            x = norm(x)
        x = x.unflatten(-1, (n_heads, self.d_head)).transpose(1, 2)
        return x if norm is None or self.qk_norm == "all" else norm(x)
