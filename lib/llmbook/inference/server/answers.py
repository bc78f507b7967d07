"""The objects that answer a request, in OpenAI's format: one whole, or chunk by chunk, under the same id."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmbook.inference.log_probs import TokenLogProb
from llmbook.inference.server.worker import Event
from llmbook.inference.text_stream import TextStream
from llmbook.text import Tokenizer

LEAST = -9999.0  # what a log-probability of −∞ is written as: JSON has no infinity


@dataclass(eq=False)
class Choice:
    """One text of an answer, as far as it has come."""

    prompt: str
    prompt_ids: list[int]
    text: str = ""
    n_tokens: int = 0
    reason: str | None = None
    total: float = 0.0  # Σ log p of its tokens
    scored: list[dict[str, Any]] = field(default_factory=list)  # its log-probabilities, event by event

    @property
    def mean(self) -> float:
        """The mean log-probability of its tokens."""
        return self.total / max(self.n_tokens, 1)


class Answer:
    """What is sent for one request.

    Args:
        chat: a message or a text.
        model: what the client is told that has written it.
        tokenizer: spells the tokens that have log-probabilities.
        choices: the texts that are written, with their prompts, in the order of the job.
        echo: whether texts begin with their prompts.
        logprobs: whether tokens have log-probabilities.
    """

    def __init__(
        self, *, chat: bool, model: str, tokenizer: Tokenizer, choices: list[Choice], echo: bool, logprobs: bool
    ):
        self.chat, self.tokenizer, self.choices, self.echo, self.logprobs = chat, tokenizer, choices, echo, logprobs
        self._spelled = [TextStream(tokenizer, () if echo else choice.prompt_ids) for choice in choices]
        self._offsets = [0] * len(choices)
        self.about = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def take(self, event: Event) -> tuple[str, dict[str, Any] | None]:
        """Note an event; what it adds to its text, and the log-probabilities of the tokens in it."""
        choice = self.choices[event.index]
        first, added = choice.n_tokens == 0 and not choice.text, event.text
        tokens: list[tuple[int, TokenLogProb | None]] = list(zip(event.tokens, event.logprobs, strict=False))
        if first and self.echo:
            added = choice.prompt + added
            known = event.prompt_logprobs or [None] * len(choice.prompt_ids)
            tokens = [*zip(choice.prompt_ids, known, strict=True), *tokens]
        choice.text += added
        choice.n_tokens += len(event.tokens)
        choice.total += sum(scored.logprob for scored in event.logprobs)
        choice.reason = event.reason
        scored = self._scores(event.index, tokens) if self.logprobs else None
        if scored is not None:
            choice.scored.append(scored)
        return added, scored

    def whole(self, chosen: Sequence[int]) -> dict[str, Any]:
        """The answer with the texts ``chosen``, when all are finished."""
        choices = []
        for index, i in enumerate(chosen):
            choice = self.choices[i]
            said = {"message": {"role": "assistant", "content": choice.text}} if self.chat else {"text": choice.text}
            scored = _merged(choice.scored) if self.logprobs else None
            choices.append({"index": index, **said, "logprobs": scored, "finish_reason": choice.reason})
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self.about, "object": kind, "choices": choices, "usage": self.usage()}

    def chunk(
        self, index: int, text: str, scored: dict[str, Any] | None, reason: str | None, *, first: bool = False
    ) -> dict[str, Any]:
        """More of choice ``index``; the first of a chat says who speaks."""
        said: dict[str, Any] = {"text": text}
        if self.chat:
            said = {"delta": ({"role": "assistant"} if first else {}) | ({"content": text} if text or first else {})}
        choice = {"index": index, **said, "logprobs": scored, "finish_reason": reason}
        return {**self.about, "object": self._chunk_kind, "choices": [choice]}

    def last_chunk(self) -> dict[str, Any]:
        """What ``stream_options.include_usage`` asks for: no text, but the counts."""
        return {**self.about, "object": self._chunk_kind, "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Tokens read and written: each prompt counts once, of the written ones the end token counts."""
        prompts = {id(choice.prompt_ids): len(choice.prompt_ids) for choice in self.choices}
        n_read, n_written = sum(prompts.values()), sum(choice.n_tokens for choice in self.choices)
        return {"prompt_tokens": n_read, "completion_tokens": n_written, "total_tokens": n_read + n_written}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _scores(self, index: int, tokens: list[tuple[int, TokenLogProb | None]]) -> dict[str, Any]:
        if self.chat:
            return {"content": [self._in_chat(scored) for _, scored in tokens if scored is not None], "refusal": None}
        offsets = []
        for token, _ in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(self._spelled[index].push(token))
        return {
            "tokens": [self._spell(token) for token, _ in tokens],
            "token_logprobs": [None if scored is None else max(scored.logprob, LEAST) for _, scored in tokens],
            "top_logprobs": [None if scored is None else self._top(scored) for _, scored in tokens],
            "text_offset": offsets,
        }

    def _top(self, scored: TokenLogProb) -> dict[str, float]:
        """The likeliest tokens by what they spell; of two that spell the same, the likelier."""
        found: dict[str, float] = {}
        for token, log_prob in (*scored.top, (scored.token, scored.logprob)):
            found.setdefault(self._spell(token), max(log_prob, LEAST))
        return found

    def _in_chat(self, scored: TokenLogProb) -> dict[str, Any]:
        return {
            **self._spelled_out(scored.token, scored.logprob),
            "top_logprobs": [self._spelled_out(token, log_prob) for token, log_prob in scored.top],
        }

    def _spelled_out(self, token: int, log_prob: float) -> dict[str, Any]:
        return {
            "token": self._spell(token),
            "logprob": max(log_prob, LEAST),
            "bytes": list(self.tokenizer.token_bytes(token)),
        }

    def _spell(self, token: int) -> str:
        """A token as text; one that holds a part of a character as OpenAI writes it, ``bytes:\\\\xe4``."""
        piece = self.tokenizer.token_bytes(token)
        if not piece:
            return self.tokenizer.decode([token])
        try:
            return piece.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _merged(scored: list[dict[str, Any]]) -> dict[str, Any]:
    """The lists of all events, one behind the other."""
    names = scored[0].keys() if scored else ()
    return {name: None if scored[0][name] is None else [one for part in scored for one in part[name]] for name in names}
