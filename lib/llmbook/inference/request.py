"""A text that is wanted, and what has become of it: what goes into an ``Engine`` and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from llmbook.inference.log_probs import TokenLogProb, token_log_prob
from llmbook.inference.sampler import FinishReason, Sampler
from llmbook.inference.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt in tokens, and what is to be written after it."""

    prompt_ids: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(eq=False, kw_only=True)
class Completion:
    """What has become of a text so far.

    Attributes:
        prompt_ids: the tokens of the prompt.
        tokens: the new tokens, the end token included.
        text: what they say, for as far as it is final; without the stop string. Empty without a tokenizer.
        finish_reason: None while it is written; then "stop" (an end token, a stop string, the end of a grammar, or the
            caller's wish), "length", "cancelled" or "failed".
        logprobs: of each new token, if asked for.
        prompt_logprobs: of each token of the prompt, if asked for; the first is None.
    """

    prompt_ids: list[int]
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogProb] = field(default_factory=list)
    prompt_logprobs: list[TokenLogProb | None] | None = None

    @property
    def ids(self) -> list[int]:
        """The prompt and the new tokens."""
        return [*self.prompt_ids, *self.tokens]

    def push(self, token: int, sampler: Sampler, logits: Float[Tensor, "V"], *, row: int = 0) -> None:
        """Note the token that ``sampler`` has given this text, its ``row``, by the model's ``logits``."""
        self.tokens.append(token)
        self.text += sampler.pieces[row]
        self.finish_reason = sampler.reasons[row]
        if sampler.sampling.logprobs is not None:
            self.logprobs.append(token_log_prob(logits, token, sampler.sampling.logprobs))
