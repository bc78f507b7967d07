r"""Speculative decoding: a cheap draft guesses several tokens, the model judges all of them in one pass.

Reading k tokens at once costs a large model hardly more than reading one, since either way all its weights pass by.
A draft proposes k tokens with probabilities q; the model's own distributions p after each of them come from a single
forward pass. Then, from left to right (https://arxiv.org/abs/2211.17192, §2.3), a token x is

    accepted with probability   min(1, p(x) / q(x)),
    else replaced by a draw from  (p − q)₊ / Σ (p − q)₊, and what the draft wrote after it is thrown away.

If all k are accepted, the pass has already computed what follows them: one more token for nothing. What comes out is
distributed exactly as without a draft. For a token x,

    q(x) · min(1, p(x)/q(x)) + (1 − Σ min(p, q)) · (p(x) − q(x))₊ / Σ (p − q)₊ = min(p, q) + (p − q)₊ = p(x),

since 1 − Σ min(p, q) = Σ (p − q)₊. A bad draft costs time, never quality. Greedy is the case where p is 1 on one
token: then the text is the model's own greedy text.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.inference.decoding_state import DecodingState, check_prompt
from llmbook.inference.guidance import make_reader
from llmbook.inference.processors import check_generator, sample
from llmbook.inference.sampler import Sampler
from llmbook.inference.sampling import Sampling
from llmbook.model import evaluating
from llmbook.text import Tokenizer


@runtime_checkable
class Draft(Protocol):
    """Anything that can guess how a text goes on."""

    def propose(self, ids: Int[Tensor, "1 T"], k: int) -> tuple[Int[Tensor, "n"], Float[Tensor, "n V"]]:
        """Up to ``k`` tokens to follow ``ids``, and the distribution each of them was drawn from."""


class ModelDraft:
    """A smaller model as the draft, with a ``Sampling`` of its own, whose fields may be given as keywords; give it that
    of the text it is to guess. What makes no distribution (lengths, ends, grammars) is left to the model.

    It remembers what it has read, so one draft serves one text at a time.
    """

    def __init__(
        self,
        model: nn.Module,
        sampling: Sampling | None = None,
        *,
        generator: torch.Generator | None = None,
        **options: Any,
    ):
        self.model, self.generator, self.sampling = model, generator, Sampling.of(sampling, options)
        self.sampling.refuse("a draft draws with a generator", "seed")
        self._n_prompt = 0
        self._reader: DecodingState | None = None

    def propose(self, ids: Int[Tensor, "1 T"], k: int) -> tuple[Int[Tensor, "n"], Float[Tensor, "n V"]]:
        if self._reader is None:
            self._reader, self._n_prompt = DecodingState(self.model, ids), ids.shape[1]
        else:
            self._reader.rewrite(ids)  # rejected guesses are forgotten, what replaced them is read
        q = []
        with evaluating(self.model):
            for _ in range(k):
                written, vocab_size = self._reader.ids, self.model.config.vocab_size
                history = self.sampling.history(written, n_prompt=self._n_prompt, vocab_size=vocab_size)
                q.append(self.sampling.distribution(self._reader.logits()[:, -1], history))  # [1, V]
                self._reader.append(sample(q[-1], self.generator))
        return self._reader.ids[0, ids.shape[1] :], torch.cat(q)


class PromptLookup:
    """A draft without a model: look for the last few tokens earlier in the text, and propose what followed there.

    Texts that repeat their prompt (summaries, corrections, code) are guessed well, others not, and nothing is lost
    (the idea of https://arxiv.org/abs/2304.04487 and https://github.com/apoorvumang/prompt-lookup-decoding).
    Raises ValueError for a ``max_ngram`` below 1.
    """

    def __init__(self, vocab_size: int, *, max_ngram: int = 3):
        if max_ngram < 1:
            raise ValueError(f"max_ngram={max_ngram}: at least one token must agree")
        self.vocab_size, self.max_ngram = vocab_size, max_ngram

    def propose(self, ids: Int[Tensor, "1 T"], k: int) -> tuple[Int[Tensor, "n"], Float[Tensor, "n V"]]:
        text = ids[0].tolist()
        tokens = torch.tensor(self._look_up(text)[:k], dtype=torch.long, device=ids.device)
        return tokens, F.one_hot(tokens, self.vocab_size).float()  # a guess without doubt: q = 1

    def _look_up(self, text: list[int]) -> list[int]:
        """What followed the last earlier occurrence of the longest ending that has one."""
        for n in range(min(self.max_ngram, len(text) - 1), 0, -1):
            for start in range(len(text) - n - 1, -1, -1):
                if text[start : start + n] == text[-n:]:
                    return text[start + n :]
        return []


@dataclass(frozen=True)
class Speculation:
    """A text and what it cost.

    Attributes:
        sequences: [1, T_out], the prompt included.
        n_new: new tokens in it.
        n_proposed, n_accepted: tokens the draft guessed, and how many of them the model took.
        n_target_calls: forward passes of the model.
    """

    sequences: Tensor
    n_new: int
    n_proposed: int
    n_accepted: int
    n_target_calls: int

    @property
    def acceptance_rate(self) -> float:
        """The share of guesses that were right; 0 if there were none."""
        return self.n_accepted / self.n_proposed if self.n_proposed else 0.0

    @property
    def calls_per_token(self) -> float:
        """Forward passes of the model for each new token: 1 without a draft, at best 1 / (k + 1)."""
        return self.n_target_calls / self.n_new if self.n_new else 0.0


def speculative_generate(
    model: nn.Module,
    input_ids: Int[Tensor, "1 T"],
    sampling: Sampling | None = None,
    *,
    draft: Draft,
    k: int = 4,
    generator: torch.Generator | None = None,
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> Speculation:
    """Continue one text as ``generate`` does, with fewer passes of ``model`` if ``draft`` guesses well.

    Args:
        draft: proposes up to ``k`` tokens at a time.
        sampling: what is to be written, and how ``model`` chooses; its fields may be given as keywords (``options``).
            With temperature=0 the text is the one ``generate`` writes.
        tokenizer: for stop strings.

    Raises:
        ValueError: an option is out of range or cannot be had here (n, logprobs), or the draft's vocabulary is not the
            model's.
    """
    sampling = Sampling.of(sampling, options)
    sampling.refuse("speculation writes one text, as each accepts its own guesses", "n")
    sampling.refuse("completions gives log-probabilities; here they would be lost", "logprobs", "prompt_logprobs")
    vocab_size = model.config.vocab_size
    if k < 1:
        raise ValueError(f"k={k}: the draft must be allowed at least one token")
    check_prompt(model, input_ids)
    if len(input_ids) != 1:
        raise ValueError(f"input_ids has {len(input_ids)} rows: speculation writes one text, as each accepts its own")
    n_prompt = input_ids.shape[1]
    room = sampling.room(n_prompt, model.config.max_seq_len)
    reader = make_reader(model, input_ids, sampling.guidance, max_len=n_prompt + room)
    sampler = Sampler(
        sampling, list(input_ids), n_prompt=n_prompt, vocab_size=vocab_size, device=input_ids.device,
        max_new_tokens=room, generator=generator, tokenizer=tokenizer,
    )  # fmt: skip
    text, n_proposed, n_accepted = input_ids, 0, 0
    with evaluating(model):
        while not sampler.finished:
            # One place is for the model's own token.
            guesses, q = _propose(draft, text, min(k, room - sampler.n_written - 1), vocab_size)
            reader.append(guesses[None])
            logits = reader.logits(len(guesses) + 1)[0]  # n+1 V: after the text, and after each guess
            p = sampler.along(logits, reader.ids)
            new = verify(guesses, q, p, sampler.one_generator)
            n_proposed, n_accepted = n_proposed + len(guesses), n_accepted + len(new) - 1
            for token in new:
                text = torch.cat([text, token[None, None]], dim=1)
                sampler.push(token[None, None])
                if sampler.finished:
                    break
            reader.rewrite(text)  # forget the rejected guesses
    return Speculation(text, text.shape[1] - n_prompt, n_proposed, n_accepted, reader.n_passes)


def verify(
    guesses: Int[Tensor, "n"],
    q: Float[Tensor, "n V"],
    p: Float[Tensor, "n+1 V"],
    generator: torch.Generator | None = None,
) -> Int[Tensor, "m"]:
    """The accepted guesses and one token of the model's own: in place of the first rejected, or after the last."""
    check_generator(generator, p)
    for i, guess in enumerate(guesses.tolist()):
        chance = torch.rand((), generator=generator, device=p.device)
        if chance >= acceptance(p[i], q[i])[guess]:
            own = sample(residual(p[i], q[i])[None], generator)[0]
            return torch.cat([guesses[:i], own])
    return torch.cat([guesses, sample(p[-1:], generator)[0]])


def acceptance(p: Float[Tensor, "V"], q: Float[Tensor, "V"]) -> Float[Tensor, "V"]:
    """The probability min(1, p/q) with which each token is accepted when the draft has drawn it."""
    return (p / q.clamp(min=torch.finfo(q.dtype).tiny)).clamp(max=1)


def residual(p: Float[Tensor, "V"], q: Float[Tensor, "V"]) -> Float[Tensor, "V"]:
    """The distribution (p − q)₊ / Σ (p − q)₊ a rejected token is replaced from: what q gives too little."""
    missing = (p - q).clamp(min=0)
    total = missing.sum()
    return missing / total if total > 0 else p  # p = q: nothing is rejected but by rounding


def _propose(draft: Draft, text: Tensor, k: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """What the draft proposes, checked: a wrong q would change the distribution without a sign."""
    if k == 0:
        return text[0, :0], torch.zeros(0, vocab_size, device=text.device)
    guesses, q = draft.propose(text, k)
    if len(guesses) > k:
        raise ValueError(f"the draft proposed {len(guesses)} tokens where at most {k} were asked for")
    if q.shape != (len(guesses), vocab_size):
        raise ValueError(
            f"the draft gave probabilities of shape {tuple(q.shape)} for {len(guesses)} tokens: the model expects "
            f"[{len(guesses)}, {vocab_size}]; do both have the same tokenizer?"
        )
    impossible = q.gather(1, guesses[:, None])[:, 0] <= 0
    if impossible.any():
        raise ValueError(f"the draft proposed token {int(guesses[impossible][0])}, to which it gives probability 0")
    return guesses, q
