"""From logits to probabilities, one step each: what makes a token likelier, less likely or impossible.

Each step is a pure function on logits [B, V]. A filter sets what it forbids to −∞, so steps compose, and the softmax at
the end shares the probability out among what is left. ``Sampling`` holds their options and applies them in one order,
that of transformers:

    bias → repetition → presence and frequency → temperature → top-k → top-p → min-p → softmax

The order matters: top-p, say, adds up probabilities that the temperature has already sharpened.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FORBIDDEN = -math.inf


def tokens_seen(
    input_ids: Int[Tensor, "B T"],
    attention_mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None,
    *,
    vocab_size: int,
) -> Bool[Tensor, "B V"]:
    """Which tokens of the vocabulary each row holds; padding holds none."""
    return count_tokens(input_ids, attention_mask, vocab_size=vocab_size) > 0


def count_tokens(
    input_ids: Int[Tensor, "B T"],
    attention_mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None,
    *,
    vocab_size: int,
) -> Int[Tensor, "B V"]:
    """How often each row holds each token of the vocabulary; padding does not count."""
    real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids.dtype)
    return real.new_zeros(len(input_ids), vocab_size).scatter_add(1, input_ids, real)


def add_bias(logits: Float[Tensor, "B V"], bias: Sequence[tuple[int, float]]) -> Float[Tensor, "B V"]:
    """Add a number to the logits of some tokens, given as (token, number); −∞ forbids one."""
    tokens = torch.tensor([token for token, _ in bias], dtype=torch.long, device=logits.device)
    values = torch.tensor([value for _, value in bias], dtype=logits.dtype, device=logits.device)
    return logits.index_add(-1, tokens, values.expand(len(logits), -1))


def penalise_repetition(
    logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"], penalty: float
) -> Float[Tensor, "B V"]:
    """Make tokens already ``seen`` less likely (CTRL, https://arxiv.org/abs/1909.05858, §4.1).

    A positive logit is divided by the penalty; a negative one multiplied, since dividing would raise it.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def penalise_counts(
    logits: Float[Tensor, "B V"], counts: Int[Tensor, "B V"], *, presence: float, frequency: float
) -> Float[Tensor, "B V"]:
    """Subtract ``presence`` from the logit of every token that has been written, and ``frequency`` once for each time.

    The formula is OpenAI's (https://platform.openai.com/docs/api-reference/completions/create).
    """
    return logits - presence * (counts > 0) - frequency * counts


def apply_temperature(logits: Float[Tensor, "B V"], temperature: float) -> Float[Tensor, "B V"]:
    """logits / temperature: below 1 sharper, above 1 flatter. The limit 0, always the likeliest token, is written
    as one: everything but the first maximum is forbidden."""
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)  # [B, 1]
        return torch.full_like(logits, FORBIDDEN).scatter(-1, best, 0.0)
    return logits / temperature


def keep_top_k(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """Keep the k largest logits (https://arxiv.org/abs/1805.04833), and those equal to the k-th."""
    k = min(k, logits.shape[-1])
    kth_largest = logits.topk(k).values[:, -1:]  # [B, 1]
    return logits.masked_fill(logits < kth_largest, FORBIDDEN)


def keep_top_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Keep the smallest set of likeliest tokens whose probability reaches p (https://arxiv.org/abs/1904.09751).

    Counted from the other end: the least likely tokens go, as long as they have no more than 1 − p together; of
    equals the one with the lower id goes first.
    """
    ordered, tokens = logits.sort(stable=True)  # the least likely first
    forbidden = ordered.softmax(-1).cumsum(-1) <= 1 - p
    forbidden[:, -1] = False  # the likeliest stays, however small p is
    return logits.masked_fill(torch.empty_like(forbidden).scatter(-1, tokens, forbidden), FORBIDDEN)


def keep_min_p(logits: Float[Tensor, "B V"], min_p: float) -> Float[Tensor, "B V"]:
    """Keep tokens at least ``min_p`` times as likely as the likeliest (https://arxiv.org/abs/2407.01082): few where
    the model is sure, many where it is not."""
    probabilities = logits.softmax(-1)
    likeliest = probabilities.amax(-1, keepdim=True)  # [B, 1]
    return logits.masked_fill(probabilities < min_p * likeliest, FORBIDDEN)


def guide(logits: Float[Tensor, "*P V"], negative: Float[Tensor, "*P V"], scale: float) -> Float[Tensor, "*P V"]:
    """Classifier-free guidance (https://arxiv.org/abs/2306.17806): go on from ``negative`` in the direction of
    ``logits``, ``scale`` times as far. 1 is no guidance; above 1 also says less of what the negative prompt wants."""
    if scale == 1:
        return logits
    log_p, log_n = logits.float().log_softmax(-1), negative.float().log_softmax(-1)
    return log_n + scale * (log_p - log_n)


def sample(probabilities: Float[Tensor, "B V"], generator: torch.Generator | None = None) -> Int[Tensor, "B 1"]:
    """Draw one token for each row; ``generator`` makes the draw repeatable. Raises ValueError for one elsewhere."""
    check_generator(generator, probabilities)
    return torch.multinomial(probabilities, num_samples=1, generator=generator)


def check_generator(generator: torch.Generator | None, near: Tensor) -> None:
    """Raise ValueError for a generator that cannot draw on the device of ``near``."""
    if generator is not None and generator.device.type != near.device.type:
        raise ValueError(
            f"the generator is on {generator.device} and the model on {near.device}: make it with "
            f"torch.Generator({near.device.type!r})"
        )
