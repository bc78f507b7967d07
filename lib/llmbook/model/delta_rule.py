r"""The delta rule: a state of fixed size in which what stands under a key can be replaced.

Linear attention adds $k_t v_t^\top$ to its state, so that two values written under one key are read as their sum. The
delta rule (https://arxiv.org/abs/2102.11174) first reads what stands there, and writes the difference:

$$S_t = S_{t-1} + \beta_t\, k_t\, (v_t - S_{t-1}^\top k_t)^\top \qquad o_t = S_t^\top q_t$$

with $S_t$ of shape [D, D], keys and queries of length 1, and $\beta_t$ between 0 (write nothing) and 1 (replace).
Positions are taken in chunks (https://arxiv.org/abs/2406.06484): with $u_t$ for $\beta_t (v_t - S_{t-1}^\top k_t)$,
what is written at $t$, the $u$ of a chunk solve one triangular system, and the rest is as in linear attention.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.cache import LayerCache
from llmbook.model.linear import Linear
from llmbook.model.linear_attention import state_of
from llmbook.model.norms import RMSNorm

CHUNK = 64


def delta_rule(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H T D"],
    v: Float[Tensor, "B H T Dv"],
    beta: Float[Tensor, "B H T"],
    *,
    state: Float[Tensor, "B H D Dv"] | None = None,
    replace: bool = True,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H D Dv"]]:
    """The equations above for given queries, keys, values and strengths; what is read, and the last state.

    Computed in float32 at least, because the triangular system has no kernel below.

    Args:
        state: S after what was read before.
        replace: False adds β v instead of the difference, which is linear attention without normalising sums.
        chunk: how many positions are taken at once; the result does not depend on it.

    Raises:
        ValueError: ``chunk`` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: take at least one position at a time")
    given, wide = v.dtype, torch.promote_types(v.dtype, torch.float32)
    q, k, v, beta = q.to(wide), k.to(wide), v.to(wide), beta.to(wide)[..., None]  # beta [B, H, T, 1]
    if state is None:
        state = v.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
    read = []
    with torch.autocast(v.device.type, enabled=False):
        for start in range(0, q.shape[2], chunk):
            part = slice(start, start + chunk)
            q_c, k_c, v_c, b_c = q[:, :, part], k[:, :, part], v[:, :, part], beta[:, :, part]
            if replace:  # (I + β K Kᵀ below the diagonal) U = β (V - K S)
                system = torch.eye(k_c.shape[2], dtype=wide, device=v.device) + (b_c * (k_c @ k_c.mT)).tril(-1)
                u = torch.linalg.solve_triangular(system, b_c * (v_c - k_c @ state), upper=False)  # [B, H, c, Dv]
            else:
                u = b_c * v_c
            read.append(q_c @ state + (q_c @ k_c.mT).tril() @ u)
            state = state + k_c.mT @ u
    return torch.cat(read, dim=2).to(given), state


class DeltaRule(nn.Module):
    """Project, read and write by ``delta_rule`` in every head, project back; the names are those of attention's layers.

    Keys and queries are brought to length 1, β is a logistic function of the stream, and what a head reads is
    normalised before it is projected, because a sum without weights has no size of its own. ``replace=False`` is the
    same layer with a state that only adds.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_heads: int,
        d_head: int,
        replace: bool = True,
        bias: bool = True,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        self.n_heads, self.d_head, self.replace = n_heads, d_head, replace
        self.q_proj, self.k_proj, self.v_proj = (Linear(d_model, n_heads * d_head, bias=bias) for _ in range(3))
        self.beta_proj = Linear(d_model, n_heads, bias=bias)
        self.read_norm = RMSNorm(d_head, eps=norm_eps)
        self.o_proj = Linear(n_heads * d_head, d_model, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        real: Bool[Tensor, "B T"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Read ``x``, and what ``cache`` remembers. Padding, where ``real`` is False, writes nothing.

        Raises:
            ValueError: the cache keeps keys and values alone, and not a state.
        """
        memory = state_of(cache)
        q, k, v = (
            projection(x).unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H, T, D]
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        beta = self.beta_proj(x).sigmoid().transpose(1, 2)  # [B, H, T]
        if real is not None:
            beta = beta * real[:, None]
        before = None if memory is None else memory.recall("delta")
        read, state = delta_rule(q, k, v, beta, state=before, replace=self.replace)
        if memory is not None:
            memory.keep("delta", state)
        return self.o_proj(self.read_norm(read).transpose(1, 2).flatten(2))
