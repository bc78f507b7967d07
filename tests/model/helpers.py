"""What several model tests need: weights large enough to expose mistakes, and small models of every kind."""

import torch
from torch import nn

from llmbook.model import DecoderLM, TransformerConfig

POSITIONS = ("none", "sinusoidal", "learned", "t5", "alibi", "rope")


def shake(model: nn.Module, std: float = 0.2) -> nn.Module:
    """Random parameters of standard deviation ``std``, norms and biases too: at 0.02 a missing part hides."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, std, generator=generator)
    return model.eval()


def small_config(**overrides) -> TransformerConfig:
    values = dict(vocab_size=31, max_seq_len=32, d_model=24, n_layers=2, n_heads=4, **overrides)
    return TransformerConfig(**values)


def small_lm(**overrides) -> DecoderLM:
    return shake(DecoderLM(small_config(**overrides)))


def random_ids(batch: int, length: int, vocab_size: int = 31) -> torch.Tensor:
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(2))
