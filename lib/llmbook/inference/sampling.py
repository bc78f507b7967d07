"""From logits to a distribution to draw from: temperature, then top-k, then top-p.

Each filter is a pure function on logits [B, V] that sets what it forbids to −∞, so filters compose and the
remaining probabilities are renormalised by the softmax at the end. This is also the order transformers uses.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

FORBIDDEN = -math.inf


def apply_temperature(logits: Float[Tensor, "B V"], temperature: float) -> Float[Tensor, "B V"]:
    """logits / temperature: below 1 sharper, above 1 flatter. The limit 0, always the likeliest token, is written
    as one: everything but the first maximum is forbidden."""
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)  # B 1
        return torch.full_like(logits, FORBIDDEN).scatter(-1, best, 0.0)
    return logits / temperature


def keep_top_k(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """Keep the k largest logits (https://arxiv.org/abs/1805.04833), and those equal to the k-th."""
    k = min(k, logits.shape[-1])
    kth_largest = logits.topk(k).values[:, -1:]  # B 1
    return logits.masked_fill(logits < kth_largest, FORBIDDEN)


def keep_top_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Keep the smallest set of likeliest tokens whose probability reaches p (https://arxiv.org/abs/1904.09751).

    A token stays if those more likely than it have not yet reached p together; so the first always stays.
    """
    if p >= 1:
        return logits
    ordered, tokens = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # what the more likely tokens have together
    forbidden = torch.empty_like(before, dtype=torch.bool).scatter(-1, tokens, before >= p)  # in vocabulary order
    return logits.masked_fill(forbidden, FORBIDDEN)


def to_distribution(
    logits: Float[Tensor, "B V"], *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "B V"]:
    """The probabilities a token is drawn from. Raises ValueError naming a dial that is out of range."""
    check_dials(temperature, top_k, top_p)
    logits = apply_temperature(logits.float(), temperature)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return logits.softmax(-1)


def sample(probabilities: Float[Tensor, "B V"], generator: torch.Generator | None = None) -> Int[Tensor, "B 1"]:
    """Draw one token for each row."""
    return torch.multinomial(probabilities, num_samples=1, generator=generator)


def check_dials(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}: must be 0 (always the likeliest token) or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k}: must be at least 1, or None for no limit")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: must lie in (0, 1], or be None for no limit")
