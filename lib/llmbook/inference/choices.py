"""Which of a few next tokens? A classifier made of a language model, without generating anything.

A prompt ends where the answer begins, and each possible answer is one token: a single forward pass says how likely each
of them is. Many prompts share their beginning (an instruction, some examples). It is read once, and its keys and values
are there for all:

    prefix   "Great fun. → positive  Dull. → negative "          read once
    rows     "A masterpiece. →"    "I fell asleep. →"  …         read behind it, in batches of like length

Padding stands at the end of a row, where a causal model's real tokens cannot see it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmbook.model import DecoderLM, KVCache, evaluating
from llmbook.model.backbone import vocab_logits


def last_states(
    model: DecoderLM, rows: Sequence[Sequence[int]], *, prefix: Sequence[int] = (), batch_size: int = 16
) -> Float[Tensor, "N C"]:
    """The final hidden state at the last token of each row, after ``prefix`` and the row have been read; in float32.

    Raises:
        ValueError: there is no row, one is empty, or one is longer with the prefix than the model allows.
    """
    if not len(rows):
        raise ValueError("rows is empty: give at least one row of token numbers")
    lengths = torch.tensor([len(row) for row in rows])
    longest = len(prefix) + int(lengths.max())
    if int(lengths.min()) < 1:
        raise ValueError(f"row {int(lengths.argmin())} is empty: there is no last token to look at")
    if longest > model.config.max_seq_len:
        raise ValueError(
            f"prefix and longest row have {longest} tokens, more than max_seq_len={model.config.max_seq_len}"
        )
    place = {"device": _stream(model).device}
    states = torch.empty(len(rows), model.config.d_model)
    with evaluating(model):
        beginning = _read(model, prefix, place)
        for chosen in lengths.argsort(stable=True).split(batch_size):
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(rows[i]) for i in chosen.tolist()], batch_first=True)
            cache = _behind(model, beginning, len(chosen), len(prefix) + ids.shape[1], place)
            hidden = model.backbone(ids.to(**place), cache=cache).last_hidden_state  # [B, T, C]
            states[chosen] = hidden[torch.arange(len(chosen)), lengths[chosen] - 1].float().cpu()
    return states


def choice_log_probs(
    model: DecoderLM,
    rows: Sequence[Sequence[int]],
    choices: Sequence[int],
    *,
    prefix: Sequence[int] = (),
    batch_size: int = 16,
) -> Float[Tensor, "N K"]:
    """log p(choice | prefix, row) for each token of ``choices`` as the next one.

    The probabilities are those among the whole vocabulary: how much falls to none of the choices can be seen.
    ``log_softmax`` over the last dimension compares the choices alone. Raises as ``last_states``, and for a choice
    that is no token.
    """
    vocab_size = model.config.vocab_size
    if outside := [choice for choice in choices if not 0 <= choice < vocab_size]:
        raise ValueError(f"choices holds {outside[0]}, outside the vocabulary 0…{vocab_size - 1}")
    states = last_states(model, rows, prefix=prefix, batch_size=batch_size)
    with evaluating(model):
        logits = vocab_logits(model, states.to(_stream(model))).float().cpu()  # [N, V]
    return logits.log_softmax(-1)[:, list(choices)]


def _stream(model: DecoderLM) -> Tensor:
    """A tensor of the device and type the model computes in: the head may be quantised or adapted, the table is not."""
    return model.backbone.embeddings.tokens.weight


def _read(model: DecoderLM, prefix: Sequence[int], place: dict) -> KVCache | None:
    if not len(prefix):
        return None
    cache = KVCache(model.config, max_len=len(prefix), dtype=_stream(model).dtype, **place)
    model.backbone(torch.tensor([list(prefix)], **place), cache=cache)
    return cache


def _behind(model: DecoderLM, beginning: KVCache | None, n_rows: int, max_len: int, place: dict) -> KVCache:
    """A cache with room for ``max_len`` positions that begins with ``beginning`` in each row."""
    dtype = _stream(model).dtype
    cache = KVCache(model.config, batch_size=n_rows, max_len=max_len, dtype=dtype, **place)
    if beginning is not None:
        cache.begin_with(beginning)
    return cache
