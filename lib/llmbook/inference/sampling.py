"""From logits to the next token: penalise repetition, then temperature, top-k, top-p, min-p, and draw.

Each step is a pure function on logits [B, V]. A filter sets what it forbids to −∞, so filters compose, and the
softmax at the end shares the probability out among what is left. The order matters and is always this one, which
is also that of transformers: top-p, say, adds up probabilities that the temperature has already sharpened.
``Sampling`` holds the dials of all of them.
"""

import difflib
import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FORBIDDEN = -math.inf
COLDEST = 1e-6  # dividing by less overflows float32


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen. ``None`` and the defaults leave the model's own distribution as it is.

    Attributes:
        temperature: below 1 sharper, above 1 flatter; 0 is greedy, always the likeliest token.
        top_k: at least 1; only the k likeliest tokens.
        top_p: in (0, 1]; only the likeliest tokens that together reach probability p.
        min_p: in [0, 1]; only tokens at least min_p times as likely as the likeliest.
        repetition_penalty: above 0; above 1 makes tokens that the text already holds less likely.

    Raises:
        ValueError: a dial is out of range; the message names it.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, str) or (value is None and name in ("temperature", "repetition_penalty")):
                raise ValueError(f"{name}={value!r}: must be a number")
        if not (self.temperature == 0 or COLDEST <= self.temperature < math.inf):
            raise ValueError(
                f"temperature={self.temperature}: must be 0 (always the likeliest token) or a number from {COLDEST} up"
            )
        if self.top_k is not None and (not isinstance(self.top_k, int) or self.top_k < 1):
            raise ValueError(f"top_k={self.top_k}: must be a whole number of at least 1, or None for no limit")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must lie in (0, 1], or be None for no limit")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p={self.min_p}: must lie in [0, 1], or be None for no limit")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(
                f"repetition_penalty={self.repetition_penalty}: must be above 0; 1 is none, 1.2 a noticeable one"
            )

    @classmethod
    def of(cls, dials: dict[str, Any]) -> "Sampling":
        """``Sampling(**dials)``. Raises TypeError for a name that is no dial, with the nearest there is."""
        names = [field.name for field in fields(cls)]
        for name in dials.keys() - names:
            near = difflib.get_close_matches(name, names, n=1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise TypeError(f"{name}={dials[name]!r}: there is no such option; {advice}")
        return cls(**dials)

    @property
    def needs_seen(self) -> bool:
        """Whether the choice depends on which tokens the text already holds."""
        return self.repetition_penalty != 1

    def seen(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, vocab_size: int) -> Tensor | None:
        """What ``tokens_seen`` finds, [B, V], or None where the choice does not depend on it.

        Whoever draws asks anew for each token: the penalty itself looks at all V, so a tally would save little, and a
        rejected guess would make it wrong.
        """
        return tokens_seen(input_ids, attention_mask, vocab_size=vocab_size) if self.needs_seen else None

    def distribution(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None = None) -> Tensor:
        """The probabilities [B, V] a token is drawn from.

        Args:
            logits: what the model gave.
            seen: which tokens the text already holds, as ``tokens_seen`` finds them; for the repetition penalty.
        """
        logits = apply_temperature(self._penalised(logits, seen), self.temperature)
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        return logits.softmax(-1)

    def draw(
        self,
        logits: Float[Tensor, "B V"],
        seen: Bool[Tensor, "B V"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B 1"]:
        """A token for each row from ``distribution``; when greedy, without computing it."""
        if self.temperature == 0:
            return self._penalised(logits, seen).argmax(-1, keepdim=True)
        return sample(self.distribution(logits, seen), generator)

    def _penalised(self, logits: Tensor, seen: Tensor | None) -> Tensor:
        if not self.needs_seen:
            return logits.float()
        if seen is None:
            raise ValueError(f"repetition_penalty={self.repetition_penalty} needs the tokens seen so far")
        return penalise_repetition(logits.float(), seen, self.repetition_penalty)


def tokens_seen(
    input_ids: Int[Tensor, "B T"],
    attention_mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None,
    *,
    vocab_size: int,
) -> Bool[Tensor, "B V"]:
    """Which tokens of the vocabulary each row holds; padding holds none."""
    real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids.dtype)
    counts = real.new_zeros(len(input_ids), vocab_size).scatter_add(1, input_ids, real)
    return counts > 0


def penalise_repetition(
    logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"], penalty: float
) -> Float[Tensor, "B V"]:
    """Make tokens already ``seen`` less likely (CTRL, https://arxiv.org/abs/1909.05858, §4.1).

    A positive logit is divided by the penalty; a negative one multiplied, since dividing would raise it.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


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


def to_distribution(
    logits: Float[Tensor, "B V"], *, seen: Bool[Tensor, "B V"] | None = None, **dials: Any
) -> Float[Tensor, "B V"]:
    """The probabilities a token is drawn from, with the dials of ``Sampling``."""
    return Sampling.of(dials).distribution(logits, seen)


def check_generator(generator: torch.Generator | None, near: Tensor) -> None:
    """Raise ValueError for a generator that cannot draw on the device of ``near``."""
    if generator is not None and generator.device.type != near.device.type:
        raise ValueError(
            f"the generator is on {generator.device} and the model on {near.device}: make it with "
            f"torch.Generator({near.device.type!r})"
        )


def sample(probabilities: Float[Tensor, "B V"], generator: torch.Generator | None = None) -> Int[Tensor, "B 1"]:
    """Draw one token for each row; ``generator`` makes the draw repeatable. Raises ValueError for one elsewhere."""
    check_generator(generator, probabilities)
    return torch.multinomial(probabilities, num_samples=1, generator=generator)
