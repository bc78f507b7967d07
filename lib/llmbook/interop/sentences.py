"""One vector for a sentence, as the models of sentence-transformers are meant to be read.

The mean over a sentence's tokens, scaled to length 1, so that the dot product of two sentences is the cosine of the
angle between them (https://arxiv.org/abs/1908.10084).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from llmbook.model import Encoder, evaluating, pool
from llmbook.text import HFTokenizer


def sentence_vectors(
    model: Encoder, tokenizer: HFTokenizer, texts: Sequence[str], *, batch_size: int = 32, max_tokens: int | None = None
) -> Float[Tensor, "N C"]:
    """A vector of length 1 for each text, in the order given.

    Texts of like length share a batch, so that little of it is padding; padding does not count. A text longer than
    ``max_tokens`` (the model's ``max_seq_len`` unless given) is cut there, its last mark kept; sentence-transformers
    cuts all-MiniLM-L6-v2's texts at 256.

    Raises:
        TypeError: ``texts`` is one text instead of several.
        ValueError: ``max_tokens`` leaves no room, or is more than the model's positions allow.
    """
    if isinstance(texts, str):
        raise TypeError("texts is one text; give a list of them")
    limit = model.config.max_seq_len
    max_tokens = limit if max_tokens is None else max_tokens
    if not 3 <= max_tokens <= limit:
        raise ValueError(f"max_tokens={max_tokens} must lie between 3 and max_seq_len={limit}")
    rows = [tokenizer.encode(text, add_special_tokens=True) for text in texts]
    rows = [row if len(row) <= max_tokens else [*row[: max_tokens - 1], row[-1]] for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    device = next(model.parameters()).device
    vectors = torch.empty(len(rows), model.config.d_model)
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids = [torch.tensor(rows[i]) for i in chosen]
            input_ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)  # [B, T]
            lengths = torch.tensor([len(row) for row in ids], device=device)
            real = torch.arange(input_ids.shape[1], device=device) < lengths[:, None]  # [B, T]
            hidden = model(input_ids, attention_mask=real).last_hidden_state  # [B, T, C]
            vectors[chosen] = F.normalize(pool(hidden, real, pooling="mean").float(), dim=-1).cpu()
    return vectors
