"""Beam search: keep the best few beginnings at every step, instead of the single best.

The likeliest text seldom begins with the likeliest token. All texts cannot be tried; ``num_beams`` beginnings are
tried at once, each continued by every token, and of all those continuations the best ``num_beams`` go on. A text
that ends is set aside and competes by

    score = Σ log p / length^α,   with α = ``length_penalty`` and ``length`` counting the new tokens, the end included

because a plain sum prefers short texts: every token lowers it. α = 0 is the plain sum, α = 1 the mean, and above 1
favours long texts (the idea of https://arxiv.org/abs/1609.08144, §7, in the simpler form of transformers). A row is
done when ``num_beams`` of its texts have ended and its best beginning, were it to end now, would not beat the worst
of them. With α > 0 a beginning might still improve later; this rule, too, is that of transformers.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmbook.inference.decoding_state import DecodingState, TokenMask, check_prompt
from llmbook.inference.guidance import GuidedReader, make_reader
from llmbook.inference.processors import FORBIDDEN
from llmbook.inference.sampler import Sampler
from llmbook.inference.sampling import Sampling
from llmbook.model import evaluating


@dataclass(frozen=True)
class Beams:
    """The best texts, R = ``n`` for each prompt, the best first.

    Attributes:
        sequences: [B·R, T_out], the prompt included; filled up with the end token.
        scores: [B·R], Σ log p / length^α of the new tokens.
    """

    sequences: Tensor
    scores: Tensor


def beam_search(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    sampling: Sampling | None = None,
    *,
    num_beams: int,
    length_penalty: float = 1.0,
    attention_mask: TokenMask | None = None,
    use_cache: bool = True,
    **options: Any,
) -> Beams:
    """The best continuations of every row of ``input_ids`` that ``num_beams`` beams find.

    Prompts, masks and options are as for ``generate``; ``n`` is how many texts to return for each prompt. A search
    draws nothing, so what shapes a draw is refused (temperature, filters, seed), and so are stop strings. Bias and
    penalties change the scores, as in transformers; ``num_beams=1`` is greedy.

    Raises:
        ValueError: an argument is out of range (the message names it), or fewer continuations exist than ``n``.
    """
    sampling = Sampling.of(sampling, options)
    sampling.refuse("a beam search draws nothing", "temperature", "top_k", "top_p", "min_p", "seed")
    sampling.refuse("a beam search gives the scores of whole texts", "logprobs", "prompt_logprobs")
    sampling.refuse("a beam search watches tokens, not text; give eos_token_id", "stop")
    if num_beams < 1:
        raise ValueError(f"num_beams={num_beams}: must be at least 1")
    if sampling.n > num_beams:
        raise ValueError(f"n={sampling.n}: num_beams={num_beams} find no more than that")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty={length_penalty}: must be a finite number; 0 is none")
    if sampling.grammar is not None and not sampling.eos_token_id:
        raise ValueError("grammar: a beam search ends a complete text with an end token; give eos_token_id")
    check_prompt(model, input_ids, attention_mask)
    n_prompt = input_ids.shape[1]
    room = sampling.room(n_prompt, model.config.max_seq_len)
    if room == 0:
        raise ValueError("max_new_tokens=0: a search needs at least one token to choose")
    reader = make_reader(
        model, input_ids, sampling.guidance, max_len=n_prompt + room, attention_mask=attention_mask, use_cache=use_cache
    )
    sampler = Sampler(
        sampling, list(input_ids), n_prompt=n_prompt, vocab_size=model.config.vocab_size, device=input_ids.device,
        max_new_tokens=room,
    )  # fmt: skip
    with evaluating(model):
        found = _search(reader, sampler, num_beams, length_penalty)
    scores, texts = found.scores[:, : sampling.n], found.texts[:, : sampling.n]
    if not scores.isfinite().all():
        raise ValueError(
            f"n={sampling.n}: there are not so many continuations of {room} tokens with a probability above 0"
        )
    texts = texts.flatten(0, 1)[:, : _longest(texts, sampler.ends)]  # B·R n
    prompts = input_ids.repeat_interleave(sampling.n, dim=0)
    return Beams(torch.cat([prompts, texts], dim=1), scores.flatten())


def _search(reader: DecodingState | GuidedReader, sampler: Sampler, num_beams: int, alpha: float) -> "Finished":
    (batch, n_prompt), ends, max_new_tokens = reader.ids.shape, sampler.ends, sampler.max_new_tokens
    end_ids = torch.tensor(ends, dtype=torch.long, device=reader.ids.device)
    found = Finished(batch, num_beams, max_new_tokens, fill=ends[0] if ends else 0, device=reader.ids.device)
    n_candidates = num_beams * max(2, 1 + len(ends))  # enough to leave num_beams, whichever of them end
    totals = torch.zeros(batch, 1, device=reader.ids.device)  # [B, K]: Σ log p of each beam; at first one beam a row
    for length in range(1, max_new_tokens + 1):
        n_beams = totals.shape[1]
        log_p = sampler.scores(reader.logits()[:, -1].float().log_softmax(-1), reader.ids, reader.mask)
        log_p = log_p.unflatten(0, (batch, n_beams))  # [B, K, V]
        vocab_size = log_p.shape[-1]
        longer = (totals[:, :, None] + log_p).flatten(1)  # [B, K·V]
        candidates, place = longer.topk(min(n_candidates, longer.shape[1]))  # [B, N], the best first
        beam, token = place // vocab_size, place % vocab_size
        rows = beam + n_beams * torch.arange(batch, device=beam.device)[:, None]  # which of the reader's rows

        # Candidates that have ended compete for a place among the finished texts …
        ended = torch.isin(token, end_ids) if length < max_new_tokens else torch.ones_like(token, dtype=torch.bool)
        scores = (candidates / length**alpha).masked_fill(~ended, FORBIDDEN)[:, :num_beams]
        texts = torch.cat([reader.ids[rows, n_prompt:], token[:, :, None]], dim=2)  # [B, N, length]
        found.add(scores, texts[:, :num_beams])

        # … and the others go on: the best of them are the beams of the next step.
        totals, kept = candidates.masked_fill(ended, FORBIDDEN).topk(min(num_beams, candidates.shape[1]))
        found.close(best_possible=totals[:, 0] / length**alpha)
        if length == max_new_tokens or found.closed.all():
            break
        chosen, tokens = rows.gather(1, kept).flatten(), token.gather(1, kept).flatten()[:, None]
        reader.reorder(chosen)
        reader.append(tokens)
        sampler.reorder(chosen.tolist(), alive=(totals > FORBIDDEN).flatten().tolist())
        sampler.push(tokens)
    return found


class Finished:
    """The best ``num_beams`` texts of each row that have ended, [B, K, n], and their scores [B, K], the best first;
    an empty place scores −∞."""

    def __init__(self, batch: int, num_beams: int, max_new_tokens: int, *, fill: int, device: torch.device):
        self.fill = fill
        self.texts = torch.full((batch, num_beams, max_new_tokens), fill, device=device)
        self.scores = torch.full((batch, num_beams), FORBIDDEN, device=device)
        self.closed = torch.zeros(batch, dtype=torch.bool, device=device)  # [B]: rows that take no more

    def add(self, scores: Float[Tensor, "B N"], texts: Int[Tensor, "B N n"]) -> None:
        """Let more texts compete for the places; −∞ never wins one."""
        _, n_places, width = self.texts.shape
        texts = torch.cat([self.texts, F.pad(texts, (0, width - texts.shape[2]), value=self.fill)], dim=1)
        scores = torch.cat([self.scores, scores.masked_fill(self.closed[:, None], FORBIDDEN)], dim=1)
        self.scores, best = scores.topk(n_places)
        self.texts = texts.gather(1, best[:, :, None].expand(-1, -1, width))

    def close(self, best_possible: Float[Tensor, "B"]) -> None:
        """Close the rows whose places are all taken by texts no worse than what is still possible."""
        self.closed = self.closed | ~(best_possible > self.scores[:, -1])


def _longest(texts: Int[Tensor, "B R n"], ends: list[int]) -> int:
    """How many tokens the longest text has, up to its end token."""
    is_end: Bool[Tensor, "B R n"] = torch.isin(texts, torch.tensor(ends, dtype=torch.long, device=texts.device))
    before_end = (is_end.long().cumsum(-1) == 0).sum(-1)  # [B, R]
    return min(int(before_end.max()) + 1, texts.shape[-1])
