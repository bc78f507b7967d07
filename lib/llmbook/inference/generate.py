"""Writing text one token at a time: read the context, draw the next token, append it, repeat.

``DecodingState`` knows how the context is read, ``Sampling`` how the token is drawn; here is the loop of the two.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.inference.decoding_state import DecodingState, TokenMask
from llmbook.inference.sampling import FORBIDDEN, Sampling
from llmbook.inference.stopping import check_lengths, end_tokens
from llmbook.model import Cache, evaluating


def generate(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    eos_token_id: int | Sequence[int] | None = None,
    min_new_tokens: int = 0,
    attention_mask: TokenMask | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    cache: Cache | None = None,
) -> Int[Tensor, "B T_out"]:
    """Continue every row of ``input_ids`` by up to ``max_new_tokens`` tokens; the prompt is part of the result.

    Args:
        model: a ``DecoderLM``, or a ``ConditionedDecoder`` encoder–decoder.
        input_ids: the prompts. Rows of different length are padded on the left.
        max_new_tokens: how many tokens to write at most.
        temperature, top_k, top_p, min_p, repetition_penalty: how to choose; see ``Sampling``. temperature=0 is greedy.
        eos_token_id: the token that ends a text, or several. A row that has drawn one is filled up with the first
            of them; when all rows have, writing ends early.
        min_new_tokens: how many tokens to write before the end token is allowed.
        attention_mask: 1 or True on real tokens, 0 on padding.
        generator: makes the draws repeatable; on the model's device.
        use_cache, cache: as ``DecodingState`` takes them; they change the speed, not the text.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    reader, steps = _begin(
        model, input_ids, sampling, max_new_tokens=max_new_tokens, min_new_tokens=min_new_tokens,
        eos_token_id=eos_token_id, generator=generator, attention_mask=attention_mask, use_cache=use_cache, cache=cache,
    )  # fmt: skip
    with evaluating(model):
        for _ in steps:
            pass
    return reader.ids


def stream_tokens(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    eos_token_id: int | Sequence[int] | None = None,
    min_new_tokens: int = 0,
    attention_mask: TokenMask | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    cache: Cache | None = None,
) -> Iterator[Int[Tensor, "B 1"]]:
    """The tokens ``generate`` appends, as they are drawn, one for each row at a time; the options are the same.

    Whatever is out of range is refused at once, before the first token is asked for.
    """
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    _, steps = _begin(
        model, input_ids, sampling, max_new_tokens=max_new_tokens, min_new_tokens=min_new_tokens,
        eos_token_id=eos_token_id, generator=generator, attention_mask=attention_mask, use_cache=use_cache, cache=cache,
    )  # fmt: skip
    return _one_by_one(model, steps)


def _begin(
    model: nn.Module,
    input_ids: Tensor,
    sampling: Sampling,
    *,
    max_new_tokens: int,
    min_new_tokens: int,
    eos_token_id: int | Sequence[int] | None,
    generator: torch.Generator | None,
    **reading: Any,
) -> tuple[DecodingState, Iterator[Tensor]]:
    """The texts, and the steps that write them on; everything checked, nothing written yet."""
    ends = end_tokens(eos_token_id, model.config.vocab_size)
    check_lengths(max_new_tokens, min_new_tokens, ends=ends)
    reader = DecodingState(model, input_ids, max_len=input_ids.shape[-1] + max_new_tokens, **reading)
    return reader, _steps(reader, sampling, max_new_tokens, min_new_tokens, ends, generator)


def _steps(
    reader: DecodingState, sampling: Sampling, max_new_tokens: int, min_new_tokens: int, ends: list[int], generator
):
    ends = torch.tensor(ends, dtype=torch.long, device=reader.ids.device)
    finished = torch.zeros_like(reader.ids[:, :1], dtype=torch.bool)  # [B, 1]
    for step in range(max_new_tokens):
        logits = reader.logits()[:, -1]  # [B, V]
        if step < min_new_tokens:
            logits = logits.index_fill(1, ends, FORBIDDEN)
        seen = sampling.seen(reader.ids, reader.mask, vocab_size=logits.shape[-1])
        token = sampling.draw(logits, seen, generator)  # [B, 1]
        if len(ends):
            token = torch.where(finished, ends[0], token)
            finished |= torch.isin(token, ends)
        reader.append(token)
        yield token
        if len(ends) and finished.all():
            return


def _one_by_one(model: nn.Module, steps: Iterator[Tensor]) -> Iterator[Tensor]:
    """Between two tokens the model and the gradients are as they were: whoever takes them may be training."""
    modules = list(model.modules())
    while True:
        with evaluating(modules):
            token = next(steps, None)
        if token is None:
            return
        yield token


def next_token_distribution(
    model: nn.Module, input_ids: Int[Tensor, "B T"], *, attention_mask: TokenMask | None = None, **dials: Any
) -> Float[Tensor, "B V"]:
    """The probabilities ``generate`` would draw the next token of each row from, with the same dials."""
    sampling = Sampling.of(dials)
    reader = DecodingState(model, input_ids, attention_mask=attention_mask, use_cache=False)
    with evaluating(model):
        seen = sampling.seen(input_ids, attention_mask, vocab_size=model.config.vocab_size)
        return sampling.distribution(reader.logits()[:, -1], seen)
