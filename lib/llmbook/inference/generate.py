"""Writing text one token at a time: read the context, draw the next token, append it, repeat.

The rule for long contexts, the same for every position scheme: the model reads the last ``max_seq_len`` tokens,
counted from position 0. Up to there the cache spares reading anything twice. Beyond, every new token moves the
window and with it every position, so nothing remembered would still be right, and the window is read anew.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmbook.inference.sampling import check_dials, sample, to_distribution
from llmbook.model import KVCache, evaluating

TokenMask = Bool[Tensor, "B T"] | Int[Tensor, "B T"]


def generate(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_token_id: int | None = None,
    attention_mask: TokenMask | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
) -> Int[Tensor, "B T_out"]:
    """Continue every row of ``input_ids`` by up to ``max_new_tokens`` tokens; the prompt is part of the result.

    temperature=0 is greedy. top_k and top_p narrow the choice, in this order. Rows of different length are padded
    on the left, with ``attention_mask`` 0 on the padding. A row that has drawn ``eos_token_id`` is filled up with
    it; when all have, generation ends early. ``generator`` (on the model's device) makes the draw repeatable. The
    cache changes the speed, not the text. Raises ValueError naming what is out of range.
    """
    check_dials(temperature, top_k, top_p)
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens}: must not be negative")
    if eos_token_id is not None and not 0 <= eos_token_id < model.config.vocab_size:
        raise ValueError(f"eos_token_id={eos_token_id} is outside the vocabulary 0…{model.config.vocab_size - 1}")
    _check_prompt(model, input_ids, attention_mask)
    ids, mask = input_ids, attention_mask
    finished = torch.zeros_like(ids[:, :1], dtype=torch.bool)  # B 1
    with evaluating(model):
        cache = _make_cache(model, ids, max_new_tokens) if use_cache else None
        for _ in range(max_new_tokens):
            logits = _last_logits(model, ids, mask, cache)  # B V
            probabilities = to_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            token = sample(probabilities, generator)  # B 1
            if eos_token_id is not None:
                token = token.masked_fill(finished, eos_token_id)
                finished |= token == eos_token_id
            ids = torch.cat([ids, token], dim=1)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(token.shape)], dim=1)
            if eos_token_id is not None and finished.all():
                break
    return ids


def next_token_distribution(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    attention_mask: TokenMask | None = None,
) -> Float[Tensor, "B V"]:
    """The probabilities ``generate`` would draw the next token of each row from, with the same dials."""
    check_dials(temperature, top_k, top_p)
    _check_prompt(model, input_ids, attention_mask)
    with evaluating(model):
        logits = _last_logits(model, input_ids, attention_mask, cache=None)
    return to_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)


def _last_logits(
    model: nn.Module, ids: Int[Tensor, "B T"], mask: TokenMask | None, cache: KVCache | None
) -> Float[Tensor, "B V"]:
    """The logits of the next token, reading only what the cache has not seen."""
    limit = model.config.max_seq_len
    if cache is not None and ids.shape[1] <= limit:
        return model(ids[:, cache.length :], attention_mask=mask, cache=cache).logits[:, -1]
    window = None if mask is None else mask[:, -limit:]
    return model(ids[:, -limit:], attention_mask=window).logits[:, -1]


def _make_cache(model: nn.Module, ids: Int[Tensor, "B T"], max_new_tokens: int) -> KVCache:
    batch_size, n_prompt = ids.shape
    weight = next(model.parameters())
    max_len = min(n_prompt + max_new_tokens, model.config.max_seq_len)
    return KVCache(model.config, batch_size=batch_size, max_len=max_len, device=weight.device, dtype=weight.dtype)


def _check_prompt(model: nn.Module, ids: Tensor, mask: Tensor | None) -> None:
    if ids.ndim != 2:
        raise ValueError(f"input_ids has shape {tuple(ids.shape)}: expected [batch, tokens], as torch.tensor([ids])")
    if ids.numel() == 0:
        raise ValueError(
            f"input_ids has shape {tuple(ids.shape)}: an empty prompt predicts nothing; start with one token at "
            "least, such as a line break or the end-of-text token"
        )
    vocab_size = model.config.vocab_size
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if len(outside):
        raise ValueError(
            f"input_ids holds {int(outside[0])}, outside the vocabulary 0…{vocab_size - 1}: "
            "was the text encoded with this model's tokenizer?"
        )
    if mask is None:
        return
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}: must be equal")
    real = mask.bool()
    wrong = ~real[:, -1] | (real[:, :-1] & ~real[:, 1:]).any(1)  # B
    if wrong.any():
        row = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"attention_mask row {row} is {mask[row].int().tolist()}: padding must stand on the left and the last "
            "token be real, because that is where the text goes on"
        )
