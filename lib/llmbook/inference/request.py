"""A text that someone wants written, and what has become of it: what goes into an ``Engine`` and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from llmbook.inference.sampling import Sampling
from llmbook.model import PagedSequence

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What someone wants written. The same ``seed`` draws what ``generate`` draws with a generator of that seed."""

    prompt_ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    eos_token_id: int | Sequence[int] | None = None
    seed: int | None = None


@dataclass(eq=False)
class Completion:
    """What has become of a request so far.

    Attributes:
        tokens: the new tokens, the end token included.
        finish_reason: None while it is written; then "stop" (an end token, or the caller's wish), "length" or
            "cancelled".
        n_preempted: how often it had to give its pages back and be read again.
    """

    request: Request
    generator: torch.Generator
    ends: list[int]
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    n_preempted: int = 0
    sequence: PagedSequence | None = None  # its pages while it is in the batch

    @property
    def ids(self) -> list[int]:
        return [*self.request.prompt_ids, *self.tokens]

    @property
    def unread(self) -> list[int]:
        """What the model has not read yet: at first everything (again, if it had to give way), then the last token."""
        return self.ids[0 if self.sequence is None else self.sequence.length :]
