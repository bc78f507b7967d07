"""The next tokens of texts that grow together: what each text allows, the draw, and which texts are finished.

Every loop that writes (``generate``, beams, speculation, the engine) holds a ``Sampler`` beside its reader. The loop
knows what the model expects; the sampler knows what was asked for: end tokens, stop strings, grammars, seeds, lengths.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmbook.inference.processors import FORBIDDEN
from llmbook.inference.sampling import Sampling
from llmbook.inference.stopping import end_tokens
from llmbook.inference.text_stream import TextStream
from llmbook.text import Tokenizer

FinishReason = Literal["stop", "length", "cancelled", "failed"]


class Sampler:
    """Chooses the tokens of a batch of texts, and says when each is finished.

    Args:
        sampling: what was asked for.
        prompts: the tokens of each text's prompt, without padding.
        n_prompt: how many tokens stand before the first new one, padding included.
        vocab_size, device: of the model.
        max_new_tokens: how many tokens to write at most.
        generator: makes the draws repeatable, in place of ``sampling.seed``.
        tokenizer: makes text of the tokens; stop strings need one.

    Attributes:
        ends: the end tokens.
        reasons: for each text why it is finished: "stop", "length" or "cancelled"; None while it is not.
        pieces: what the last token added to each text, for as far as it is final; empty without a tokenizer.
        n_written: how many tokens each text has been given.

    Raises:
        ValueError: an end token or the grammar does not fit the model, stop strings without a tokenizer, a seed and a
            generator at once.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompts: Sequence[Sequence[int]],
        *,
        n_prompt: int,
        vocab_size: int,
        device: torch.device,
        max_new_tokens: int,
        generator: torch.Generator | None = None,
        tokenizer: Tokenizer | None = None,
    ):
        if sampling.stop and tokenizer is None:
            raise ValueError(f"stop={list(sampling.stop)}: stop strings need a tokenizer; give tokenizer=…")
        if sampling.seed is not None and generator is not None:
            raise ValueError(f"seed={sampling.seed} and a generator were given: give one of the two")
        self.sampling, self.n_prompt, self.vocab_size = sampling, n_prompt, vocab_size
        self.max_new_tokens, self.generator, self.device = max_new_tokens, generator, device
        self.ends = end_tokens(sampling.eos_token_id, vocab_size)
        if outside := [token for token, _ in sampling.logit_bias if not 0 <= token < vocab_size]:
            raise ValueError(f"logit_bias names {outside[0]}, outside the vocabulary 0…{vocab_size - 1}")
        n_rows = len(prompts)
        self.reasons: list[FinishReason | None] = [None] * n_rows
        self.pieces, self.n_written = [""] * n_rows, 0
        self.matchers = None if sampling.grammar is None else [sampling.grammar.matcher() for _ in prompts]
        self._generators = None
        if sampling.seed is not None:
            self._generators = [torch.Generator(device).manual_seed(sampling.seed_of(i)) for i in range(n_rows)]
        self._texts = None
        if tokenizer is not None:
            self._texts = [TextStream(tokenizer, prompt, stop=sampling.stop) for prompt in prompts]

    @property
    def finished(self) -> bool:
        """Whether every text is."""
        return self.n_written >= self.max_new_tokens or None not in self.reasons

    def scores(
        self, logits: Float[Tensor, "B V"], ids: Int[Tensor, "B T"], mask: Tensor | None = None
    ) -> Float[Tensor, "B V"]:
        """The logits after bias and penalties, −∞ for what a grammar or ``min_new_tokens`` forbids.

        Raises ValueError if a grammar has come to a dead end, or no token is left.
        """
        sampling = self.sampling
        history = sampling.history(ids, mask, n_prompt=self.n_prompt, vocab_size=logits.shape[-1])
        scores = sampling.scores(logits, history)
        if ids.shape[1] - self.n_prompt < sampling.min_new_tokens:
            scores = scores.index_fill(1, torch.tensor(self.ends, device=scores.device), FORBIDDEN)
        if self.matchers is not None:
            scores = scores.masked_fill(~self._allowed(scores), FORBIDDEN)
        if (self.matchers is not None or sampling.logit_bias) and not (scores > FORBIDDEN).any(-1).all():
            raise ValueError("grammar, logit_bias and min_new_tokens together forbid every token")
        return scores

    def draw(
        self, logits: Float[Tensor, "B V"], ids: Int[Tensor, "B T"], mask: Tensor | None = None
    ) -> Int[Tensor, "B 1"]:
        """The next token of each text [B, T]; a finished text is filled up with the first end token (or with 0)."""
        scores = self.scores(logits, ids, mask)
        if self._generators is None:
            tokens = self.sampling.choose(scores, self.generator)
        else:
            rows = zip(scores.split(1), self._generators, strict=True)
            tokens = torch.cat([self.sampling.choose(row, generator) for row, generator in rows])
        if any(self.reasons):
            done = torch.tensor([[reason is not None] for reason in self.reasons], device=tokens.device)
            tokens = torch.where(done, self.ends[0] if self.ends else 0, tokens)
        return tokens

    def push(self, tokens: Int[Tensor, "B 1"]) -> None:
        """Take the tokens that the texts were given."""
        self.n_written += 1
        last = self.n_written >= self.max_new_tokens
        if not (self.ends or self._texts or self.matchers or last):
            return  # nothing but the length can end these texts: no need to know the tokens, on a GPU not yet computed
        for i, token in enumerate(tokens[:, 0].tolist()):
            self.pieces[i] = ""
            if self.reasons[i] is None:
                self._push(i, token, last)

    def reorder(self, rows: Sequence[int], *, alive: Sequence[bool]) -> None:
        """Let text i go on from what text ``rows[i]`` was; for beams, which have no text streams. What is not ``alive``
        only fills a place: there were fewer continuations than places."""
        if self.matchers is not None:
            self.matchers = [self.matchers[row].fork() for row in rows]
        self.reasons = [self.reasons[row] if lives else "failed" for row, lives in zip(rows, alive, strict=True)]
        self.pieces = [""] * len(rows)

    def along(self, logits: Float[Tensor, "n1 V"], ids: Int[Tensor, "1 T"]) -> Float[Tensor, "n1 V"]:
        """The distributions at n + 1 places of one text whose last n tokens are guesses: after the text before them,
        and after each guess. Behind a guess that is impossible, or ends the text, the last one is repeated."""
        n, matchers = len(logits) - 1, self.matchers
        found, n_pushed = [], 0
        for i in range(n + 1):
            before = ids[:, : ids.shape[1] - n + i]
            found.append(self.sampling.probabilities(self.scores(logits[i : i + 1], before)))
            if i == n or matchers is None:
                continue
            guess = int(ids[0, before.shape[1]])
            if guess in self.ends or not found[-1][0, guess] > 0:
                break
            matchers[0].push(guess)
            n_pushed += 1
            if matchers[0].at_its_end:
                break
        if matchers is not None:
            matchers[0].pop(n_pushed)
        return torch.cat(found + found[-1:] * (n + 1 - len(found)))

    @property
    def one_generator(self) -> torch.Generator | None:
        """What a single text draws with."""
        return self.generator if self._generators is None else self._generators[0]

    def _push(self, i: int, token: int, last: bool) -> None:
        ended, text = token in self.ends, None if self._texts is None else self._texts[i]
        piece = "" if ended or text is None else text.push(token)
        if self.matchers is not None and not ended:
            self.matchers[i].push(token)
            ended = self.matchers[i].at_its_end
        ended = ended or (text is not None and text.stopped is not None)
        if ended or last:
            self.reasons[i] = "stop" if ended else "length"
            piece += "" if text is None else text.finish()
        self.pieces[i] = piece

    def _allowed(self, scores: Tensor) -> Tensor:
        over = torch.ones(self.vocab_size, dtype=torch.bool)  # a finished text may only end, if it can be told to
        if self.ends:
            over = torch.zeros_like(over).index_fill(0, torch.tensor(self.ends), True)
        rows = [
            over if reason else matcher.allowed(self.vocab_size, self.ends)
            for matcher, reason in zip(self.matchers, self.reasons, strict=True)
        ]
        return torch.stack(rows).to(scores.device)
