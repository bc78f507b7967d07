"""Who may read whom, as boolean tensors. In every mask of this library **True means "may attend"**.

A mask has the shape [T, S]: row i is a query, column j a key. When fewer queries than keys arrive (generation
with a cache), the queries are the *last* T of the S positions: query i stands at position S - T + i. Masks
combine with ``&``; leading axes for batch and heads broadcast.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Device = torch.device | str | None


def relative_positions(q_len: int, k_len: int | None = None, *, device: Device = None) -> Int[Tensor, "T S"]:
    """Position of the key minus position of the query: 0 on the diagonal, negative in the past.

    Every mask and every bias of distances starts here, so all agree on where the queries stand. Raises ValueError,
    as all of them then do, for more queries than keys.
    """
    k_len = q_len if k_len is None else k_len
    if k_len < q_len:
        raise ValueError(f"q_len={q_len} queries cannot be the last of k_len={k_len} positions")
    query = torch.arange(k_len - q_len, k_len, device=device)
    key = torch.arange(k_len, device=device)
    return key[None, :] - query[:, None]


def causal_mask(q_len: int, k_len: int | None = None, *, device: Device = None) -> Bool[Tensor, "T S"]:
    """Each position reads itself and everything before it."""
    return relative_positions(q_len, k_len, device=device) <= 0


def sliding_window_mask(
    q_len: int, k_len: int | None = None, *, window: int, device: Device = None
) -> Bool[Tensor, "T S"]:
    """Each position reads itself and the ``window - 1`` positions before it (https://arxiv.org/abs/2310.06825).

    Raises ValueError for a ``window`` below 1.
    """
    if window < 1:
        raise ValueError(f"window={window}: a position must at least see itself; give a window of 1 or more")
    relative = relative_positions(q_len, k_len, device=device)
    return (relative <= 0) & (relative > -window)


def prefix_mask(q_len: int, k_len: int | None = None, *, prefix_len: int, device: Device = None) -> Bool[Tensor, "T S"]:
    """The first ``prefix_len`` positions are read by all, in both directions; after them the mask is causal.

    Raises ValueError for a negative ``prefix_len``.
    """
    if prefix_len < 0:
        raise ValueError(f"prefix_len={prefix_len} is negative; 0 gives the causal mask")
    relative = relative_positions(q_len, k_len, device=device)
    in_prefix = torch.arange(relative.shape[1], device=device) < prefix_len
    return (relative <= 0) | in_prefix


def padding_mask(
    attention_mask: Bool[Tensor, "B S"] | Int[Tensor, "B S"],
) -> Bool[Tensor, "B 1 1 S"]:
    """Nobody reads padding: [B, S] with 1 or True on real tokens becomes a mask over keys."""
    return attention_mask.bool()[:, None, None, :]
