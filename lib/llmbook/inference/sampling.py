"""What is to be written, and how each token is chosen: the options that every way of generating takes.

``generate``, ``stream``, ``complete``, beam search, speculation, the batching engine and the server all take one
``Sampling``, or its fields as keywords (``Sampling.of`` is where keywords become one). Something that a road cannot do
it refuses by name. The steps from logits to probabilities are in ``processors``.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmbook.inference.option_checks import NUMBERS, WHOLE, bias, check_number, end_ids, whole
from llmbook.inference.processors import (
    add_bias,
    apply_temperature,
    count_tokens,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_counts,
    penalise_repetition,
    sample,
    tokens_seen,
)
from llmbook.inference.stopping import stop_strings

if TYPE_CHECKING:
    from llmbook.inference.grammar import Grammar


@dataclass(frozen=True)
class History:
    """What the penalties ask about the texts so far: which tokens they hold, and how often they were written."""

    seen: Bool[Tensor, "B V"] | None = None  # in the prompt too; for the penalty on repetition
    counts: Int[Tensor, "B V"] | None = None  # in the new text alone; for those on presence and frequency


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Write less like the model would after ``negative_ids`` (classifier-free guidance, see ``processors.guide``).

    Attributes:
        negative_ids: the negative prompt, in tokens; none for the last token of the prompt alone.
        scale: 1 is none, 1.5 a noticeable one.

    Raises:
        ValueError: the scale is not a finite number.
    """

    negative_ids: Sequence[int] = ()
    scale: float

    def __post_init__(self):
        object.__setattr__(self, "negative_ids", tuple(map(index, self.negative_ids)))
        if isinstance(self.scale, bool) or not isinstance(self.scale, Real) or not math.isfinite(self.scale):
            raise ValueError(f"scale={self.scale!r}: must be a finite number; 1 is no guidance")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is to be written. ``None`` and the defaults leave the model's own distribution as it is.

    Attributes:
        max_new_tokens: how many tokens to write at most; None for what the model's context has room for.
        min_new_tokens: how many tokens to write before the end token is allowed.
        eos_token_id: the token that ends a text, or several.
        stop: texts that end a text and do not belong to it; they need a tokenizer.
        temperature: below 1 sharper, above 1 flatter; 0 is greedy, always the likeliest token.
        top_k: at least 1; only the k likeliest tokens.
        top_p: in (0, 1]; only the likeliest tokens that together reach probability p.
        min_p: in [0, 1]; only tokens at least min_p times as likely as the likeliest.
        repetition_penalty: above 0; above 1 makes tokens that the text already holds, prompt included, less likely.
        presence_penalty: subtracted from the logit of each token that has been written.
        frequency_penalty: subtracted from it once for each time it has been written.
        logit_bias: numbers added to the logits of tokens, by token; −∞ forbids one.
        grammar: what the text must conform to, see ``grammar.Grammar``.
        guidance: a negative prompt and a scale.
        n: how many texts to write for each prompt.
        seed: makes the draws repeatable. Text i draws with a generator of its own, seeded with seed + i, so that it
            does not depend on the texts beside it.
        logprobs: log-probabilities of the written tokens, and of this many likeliest ones at each place, as the model
            gives them, before any option above; 0 for the written ones alone.
        prompt_logprobs: those of the prompt's tokens as well.

    Raises:
        ValueError: an option is out of range; the message names it.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    eos_token_id: int | Sequence[int] | None = ()
    stop: str | Sequence[str] = ()
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] = ()
    grammar: "Grammar | None" = None
    guidance: Guidance | None = None
    n: int = 1
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: bool = False

    def __post_init__(self):
        self._set(eos_token_id=end_ids(self.eos_token_id), stop=stop_strings(self.stop))
        self._set(logit_bias=bias(self.logit_bias))
        for name in WHOLE:
            self._set(**{name: whole(name, getattr(self, name))})
        for name in NUMBERS:
            check_number(name, getattr(self, name))
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens}: must lie between 0 and max_new_tokens={self.max_new_tokens}"
            )
        if self.min_new_tokens and not self.eos_token_id:
            raise ValueError(f"min_new_tokens={self.min_new_tokens} forbids an early end: name it with eos_token_id")
        if self.guidance is not None and not isinstance(self.guidance, Guidance):
            raise ValueError(f"guidance={self.guidance!r}: give Guidance(negative_ids=…, scale=…)")
        if self.prompt_logprobs and self.logprobs is None:
            raise ValueError("prompt_logprobs=True needs logprobs, such as logprobs=0")
        if self.guidance is not None and self.logprobs is not None:
            raise ValueError(f"logprobs={self.logprobs} with guidance: what is guided are not the model's own")

    @classmethod
    def of(cls, sampling: "Sampling | None" = None, options: Mapping[str, Any] | None = None) -> "Sampling":
        """``sampling`` with the ``options`` that were given as keywords. Raises TypeError for a name that is no option,
        with the nearest there is, and for something that is no ``Sampling``."""
        if sampling is not None and not isinstance(sampling, cls):
            raise TypeError(f"sampling={sampling!r}: give a Sampling, or its fields as keywords")
        options, names = dict(options or {}), [field.name for field in fields(cls)]
        for name in options.keys() - names:
            near = difflib.get_close_matches(name, names, n=1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise TypeError(f"{name}={options[name]!r}: there is no such option; {advice}")
        return cls(**options) if sampling is None else replace(sampling, **options)

    def refuse(self, road: str, *names: str) -> None:
        """Raise ValueError if one of the options ``names`` is not at its default, which is all that ``road`` takes."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in names and value != field.default:
                raise ValueError(f"{field.name}={value!r}: {road}")

    def row(self, i: int) -> "Sampling":
        """What is asked for text ``i`` of several, alone: its own seed (seed + i, in 64 bits), and one text."""
        return replace(self, n=1, seed=self.seed_of(i))

    def seed_of(self, i: int) -> int | None:
        """The seed of text ``i`` of several."""
        return None if self.seed is None else (self.seed + i + 2**63) % 2**64 - 2**63

    def room(self, n_prompt: int, limit: int) -> int:
        """How many tokens to write at most after a prompt, if the model reads ``limit`` at once.

        Raises ValueError if no number was given and the prompt leaves no room.
        """
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if n_prompt >= limit:
            raise ValueError(f"a prompt of {n_prompt} tokens fills the context of {limit}: give max_new_tokens")
        return limit - n_prompt

    @property
    def needs_history(self) -> bool:
        """Whether the choice depends on which tokens the text already holds."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    def history(
        self, ids: Tensor, mask: Tensor | None = None, *, n_prompt: int | None = None, vocab_size: int
    ) -> History | None:
        """What the penalties ask about texts [B, T] whose first ``n_prompt`` tokens (all, unless given) are a prompt;
        None where the choice does not depend on it.

        It is counted again for each token: the penalty itself looks at all V, so a running count would save little,
        and a rejected guess would make it wrong.
        """
        if not self.needs_history:
            return None
        seen = counts = None
        if self.repetition_penalty != 1:
            seen = tokens_seen(ids, mask, vocab_size=vocab_size)
        if self.presence_penalty != 0 or self.frequency_penalty != 0:
            written = ids[:, ids.shape[1] if n_prompt is None else n_prompt :]
            counts = count_tokens(written, vocab_size=vocab_size)
        return History(seen, counts)

    def scores(self, logits: Float[Tensor, "B V"], history: History | None = None) -> Float[Tensor, "B V"]:
        """The logits after bias and penalties, in float32: all that changes which token is the likeliest.

        Raises ValueError if a penalty needs the ``history`` and there is none.
        """
        logits = logits.float()
        if self.logit_bias:
            logits = add_bias(logits, self.logit_bias)
        history = History() if history is None else history
        if self.repetition_penalty != 1:
            seen = self._known(history.seen, "repetition_penalty")
            logits = penalise_repetition(logits, seen, self.repetition_penalty)
        if self.presence_penalty != 0 or self.frequency_penalty != 0:
            name = "presence_penalty" if self.presence_penalty != 0 else "frequency_penalty"
            counts = self._known(history.counts, name)
            logits = penalise_counts(logits, counts, presence=self.presence_penalty, frequency=self.frequency_penalty)
        return logits

    def distribution(self, logits: Float[Tensor, "B V"], history: History | None = None) -> Float[Tensor, "B V"]:
        """The probabilities a token is drawn from, given what the model gave."""
        return self.probabilities(self.scores(logits, history))

    def probabilities(self, scores: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """The probabilities that temperature and filters make of ``scores``."""
        logits = apply_temperature(scores, self.temperature)
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
        history: History | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B 1"]:
        """A token for each row from ``distribution``; when greedy, without computing it."""
        return self.choose(self.scores(logits, history), generator)

    def choose(self, scores: Float[Tensor, "B V"], generator: torch.Generator | None = None) -> Int[Tensor, "B 1"]:
        """A token for each row from ``probabilities(scores)``."""
        if self.temperature == 0:
            return scores.argmax(-1, keepdim=True)
        return sample(self.probabilities(scores), generator)

    def _known(self, past: Tensor | None, name: str) -> Tensor:
        if past is None:
            raise ValueError(f"{name}={getattr(self, name)} needs the tokens seen so far")
        return past

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def to_distribution(
    logits: Float[Tensor, "B V"], *, history: History | None = None, **options: Any
) -> Float[Tensor, "B V"]:
    """The probabilities a token is drawn from, with the options of ``Sampling``."""
    return Sampling.of(options=options).distribution(logits, history)
