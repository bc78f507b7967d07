"""Small models with large random weights, and a check that a loss moves what it should."""

import torch

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.training import causal_lm_loss
from tests.model.helpers import random_ids, shake

LLAMA = dict(positions="rope", norm="rmsnorm", feed_forward="swiglu", bias=False, n_kv_heads=2)


def lm(**overrides) -> DecoderLM:
    values = dict(vocab_size=31, max_seq_len=32, d_model=16, n_layers=2, n_heads=4)
    return shake(DecoderLM(TransformerConfig(**{**values, **overrides})))


def logits(model, ids=None, **keywords) -> torch.Tensor:
    with torch.no_grad():
        return model(random_ids(2, 7) if ids is None else ids, **keywords).logits


def behind_words(model, ids: torch.Tensor, words: list[int]) -> torch.Tensor:
    """The logits that the model inside ``model`` gives for ``ids`` with real words before them."""
    before = torch.tensor(words).expand(len(ids), -1)
    return logits(model.model, torch.cat([before, ids], dim=1))[:, len(words) :]


def backward(model, ids=None) -> None:
    causal_lm_loss(model, {"input_ids": random_ids(2, 7) if ids is None else ids}).total.backward()


def with_gradient(model) -> set[str]:
    """Names of the parameters a loss has reached with anything but zero."""
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def left_padded(ids: torch.Tensor, n_pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of ``ids`` behind ``n_pad`` columns of padding, below a row without any; and the attention mask."""
    width = ids.shape[1] + n_pad
    padded = torch.cat([torch.full((len(ids), n_pad), 3), ids], dim=1)
    mask = (torch.arange(width) >= n_pad).long().expand(len(ids), -1)
    long = random_ids(1, width)
    return torch.cat([long, padded]), torch.cat([torch.ones_like(long), mask])
