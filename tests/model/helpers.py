"""What several model tests need: weights large enough to expose mistakes, and small models of every kind."""

import torch
from torch import nn

from llmbook.model import DecoderLM, TransformerConfig

# The parts of newer decoders: norms around or behind each part of a block, layers of two kinds, bounds, turned in part.
SANDWICH = dict(
    positions="rope", norm="rmsnorm", norm_position="sandwich", feed_forward="geglu_tanh", n_kv_heads=2, d_head=8,
    bias=False, qk_norm=True, zero_centred_norm=True, sliding_window=3, full_layers=(1,), window_rope_theta=100.0,
    attention_cap=2.0, logit_cap=3.0, scale_embeddings=True,
)  # fmt: skip
OUTPUT = dict(
    positions="rope", norm="rmsnorm", norm_position="output", feed_forward="swiglu", n_kv_heads=2, d_head=8, bias=False,
    qkv_bias=True, qk_norm=True, qk_norm_width="all", rotary_fraction=0.5, nope_layers=(1,),
)  # fmt: skip
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
