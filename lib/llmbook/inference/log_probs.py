"""Log-probabilities as results: how likely the model found each token, and which it found likeliest in its place.

They are the model's own, from its logits as they come: temperature, filters, penalties and grammars change what is
drawn, not what the model expects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class TokenLogProb:
    """log p of one token of a text, and the likeliest tokens at its place with theirs, the likeliest first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_log_prob(logits: Float[Tensor, "V"], token: int, k: int) -> TokenLogProb:
    """What the model's ``logits`` say of ``token`` and of the ``k`` likeliest."""
    (scored,) = _score(logits[None], [token], k)
    return scored


def prompt_log_probs(logits: Float[Tensor, "T V"], tokens: Sequence[int], k: int) -> list[TokenLogProb | None]:
    """For each token of a text, what the logits at the token before it say of it and of the ``k`` likeliest; None for
    the first, which nothing predicts."""
    return [None, *_score(logits[:-1], list(tokens[1:]), k)]


def _score(logits: Float[Tensor, "T V"], tokens: list[int], k: int) -> list[TokenLogProb]:
    log_p = logits.float().log_softmax(-1)
    chosen = log_p.gather(1, torch.tensor(tokens, device=log_p.device).view(-1, 1).long())[:, 0]
    values, best = log_p.topk(min(k, log_p.shape[-1]))  # T k
    tops = [tuple(zip(ids, scores, strict=True)) for ids, scores in zip(best.tolist(), values.tolist(), strict=True)]
    return [TokenLogProb(*row) for row in zip(tokens, chosen.tolist(), tops, strict=True)]
