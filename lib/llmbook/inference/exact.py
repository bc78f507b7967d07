"""The likeliest text of all, found for certain: depth-first search that prunes (https://arxiv.org/abs/1908.10090, §3).

Every token lowers the probability of a text. A beginning that is no likelier than a *finished* text already found can
therefore be left, with everything that would follow it:

    best ← −∞
    take a beginning from the stack; leave it if its log p ≤ best
    else read it: log p + log p(end) may become the new best; every other token makes a longer beginning for the stack

What remains in the end is the mode, whatever the order. Likeliest beginnings first finds good texts early, which
prunes the rest. The number of beginnings that are likelier than the mode decides the cost; a flat distribution has too
many, so that ``max_reads`` may end the search before it is complete.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.inference.decoding_state import check_prompt
from llmbook.model import evaluating


@dataclass(frozen=True)
class Mode:
    """The likeliest finished text of a search.

    Attributes:
        tokens: what follows the prompt, the end token included; ``[eos]`` is the empty text.
        log_p: Σ log p of these tokens, in nats.
        n_reads: how many beginnings the model has read.
        exact: whether nothing likelier can exist; False if ``max_reads`` ended the search.
    """

    tokens: list[int]
    log_p: float
    n_reads: int
    exact: bool


def likeliest_text(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    *,
    eos_token_id: int,
    max_new_tokens: int,
    at_least: float = -math.inf,
    batch_size: int = 16,
    max_reads: int = 100_000,
) -> Mode:
    """The text of at most ``max_new_tokens`` tokens, the end among them, with the largest Σ log p after a prompt.

    Args:
        model: a ``DecoderLM``, or a ``ConditionedDecoder`` with one source.
        at_least: log p of a text that is known, say from a beam search: what is less likely is pruned from the start.
            A text of that very log p is still found (within 1e-4, the rounding of another batch).
        batch_size: how many beginnings are read at once. It changes the speed and ``n_reads``, not the text.

    Raises:
        ValueError: an argument is out of range, the prompt has not one row, or no text reaches ``at_least``.
    """
    check_prompt(model, input_ids)
    config: Any = model.config
    if len(input_ids) != 1:
        raise ValueError(f"input_ids has {len(input_ids)} rows: the search is for one prompt at a time")
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size), ("max_reads", max_reads)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    if not 0 <= eos_token_id < config.vocab_size:
        raise ValueError(f"eos_token_id={eos_token_id}: no token of a vocabulary of {config.vocab_size}")
    longest = input_ids.shape[1] + max_new_tokens - 1
    if longest > config.max_seq_len:
        raise ValueError(f"max_new_tokens={max_new_tokens}: {longest} tokens to read, max_seq_len is less")
    bound, best, n_reads = at_least - 1e-4, [], 0
    stack: list[tuple[float, list[int]]] = [(0.0, [])]  # beginnings with their log p; the last is taken first
    with evaluating(model), torch.inference_mode():
        while stack and n_reads < max_reads:
            taken: list[tuple[float, list[int]]] = []
            while stack and len(taken) < min(batch_size, max_reads - n_reads):
                if stack[-1][0] > bound:
                    taken.append(stack.pop())
                else:
                    stack.pop()
            if not taken:
                break
            log_p = _read(model, input_ids, [tokens for _, tokens in taken])  # [N, V]
            n_reads += len(taken)
            totals = log_p.double() + torch.tensor([[total] for total, _ in taken], device=log_p.device)
            for row, (_, tokens) in zip(totals[:, eos_token_id].tolist(), taken, strict=True):
                if row > bound:
                    bound, best = row, [*tokens, eos_token_id]
            totals[:, eos_token_id] = -math.inf
            totals[[len(tokens) + 1 >= max_new_tokens for _, tokens in taken]] = -math.inf
            rows, columns = (totals > bound).nonzero(as_tuple=True)
            longer = zip(totals[rows, columns].tolist(), rows.tolist(), columns.tolist(), strict=True)
            stack += [(total, [*taken[row][1], token]) for total, row, token in sorted(longer)]
    exact = not any(total > bound for total, _ in stack)
    if not best:
        reason = "the search ended before one was found" if not exact else "there is none"
        raise ValueError(f"at_least={at_least}, max_reads={max_reads}: no finished text so likely; {reason}")
    return Mode(best, bound, n_reads, exact)


def _read(model: nn.Module, prompt: Int[Tensor, "1 T"], rows: list[list[int]]) -> Float[Tensor, "N V"]:
    """log p of what follows each beginning. They are padded on the right, where a causal model does not look."""
    longest = max(map(len, rows))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long, device=prompt.device)
    ids = torch.cat([prompt.expand(len(rows), -1), padded.view(len(rows), longest)], dim=1)
    last = torch.tensor([prompt.shape[1] + len(row) - 1 for row in rows], device=prompt.device)
    logits = model(ids).logits  # [N, T + longest, V]
    return logits[torch.arange(len(rows), device=prompt.device), last].float().log_softmax(-1)
