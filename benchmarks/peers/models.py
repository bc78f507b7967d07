"""The peers' models at one size, each as its module and a function from token numbers to logits.

Each is built as its own documentation shows, without dropout; packages are imported where they are needed, so that a
missing one costs its own row alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.peers.plain_gpt import PlainGPT

Logits = Callable[[Tensor], Tensor]  # [B, T] -> [B, T, V]


@dataclass(frozen=True)
class Size:
    n_layers: int
    n_heads: int
    d_model: int
    seq_len: int
    batch_size: int
    vocab_size: int = 65

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.seq_len

    def __str__(self) -> str:
        return (
            f"{self.n_layers} layers, {self.n_heads} heads, width {self.d_model}, context {self.seq_len}, "
            f"batch {self.batch_size}"
        )


SIZES = {
    "small": Size(n_layers=4, n_heads=4, d_model=128, seq_len=64, batch_size=12),
    "larger": Size(n_layers=6, n_heads=6, d_model=384, seq_len=256, batch_size=8),
}


def plain_gpt(size: Size) -> tuple[nn.Module, Logits]:
    names = ("vocab_size", "seq_len", "d_model", "n_layers", "n_heads")
    model = PlainGPT(**{name: getattr(size, name) for name in names})
    return model, model


def compiled_plain_gpt(size: Size) -> tuple[nn.Module, Logits]:
    model, _ = plain_gpt(size)
    return model, torch.compile(model)


def transformers_gpt2(size: Size) -> tuple[nn.Module, Logits]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=size.vocab_size, n_positions=size.seq_len, n_embd=size.d_model, n_layer=size.n_layers,
        n_head=size.n_heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    return model, lambda ids: model(ids).logits


def transformers_llama(size: Size) -> tuple[nn.Module, Logits]:
    """The gated feed-forward is 8/3 wide, rounded up to a multiple of 32, which keeps GPT-2's parameter count."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size.vocab_size, hidden_size=size.d_model, intermediate_size=math.ceil(size.d_model / 12) * 32,
        num_hidden_layers=size.n_layers, num_attention_heads=size.n_heads, max_position_embeddings=size.seq_len,
        tie_word_embeddings=True, use_cache=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    return model, lambda ids: model(ids).logits


class TorchEncoderLM(nn.Module):
    """``nn.TransformerEncoder`` with a causal mask, as in PyTorch's tutorial on language modelling: post-norm, ReLU,
    sinusoidal positions, embeddings times √C, a head of its own, drawn from U(−0.1, 0.1)."""

    def __init__(self, size: Size):
        super().__init__()
        layer = nn.TransformerEncoderLayer(size.d_model, size.n_heads, 4 * size.d_model, dropout=0.0, batch_first=True)
        self.tokens = nn.Embedding(size.vocab_size, size.d_model)
        self.encoder = nn.TransformerEncoder(layer, size.n_layers, enable_nested_tensor=False)
        self.head = nn.Linear(size.d_model, size.vocab_size)
        for weight in (self.tokens.weight, self.head.weight):
            nn.init.uniform_(weight, -0.1, 0.1)
        place = torch.arange(size.seq_len)[:, None]
        angle = place * torch.exp(torch.arange(0, size.d_model, 2) * (-math.log(10_000.0) / size.d_model))
        self.register_buffer("positions", torch.stack((angle.sin(), angle.cos()), -1).flatten(1))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(size.seq_len))

    def forward(self, ids: Tensor) -> Tensor:
        width = ids.shape[1]
        x = self.tokens(ids) * math.sqrt(self.tokens.embedding_dim) + self.positions[:width]
        return self.head(self.encoder(x, mask=self.mask[:width, :width], is_causal=True))


def torch_encoder(size: Size) -> tuple[nn.Module, Logits]:
    model = TorchEncoderLM(size)
    return model, model


def x_transformers(size: Size) -> tuple[nn.Module, Logits]:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=size.d_model, depth=size.n_layers, heads=size.n_heads, attn_dim_head=size.d_model // size.n_heads,
        attn_flash=True,
    )  # fmt: skip
    model = TransformerWrapper(num_tokens=size.vocab_size, max_seq_len=size.seq_len, attn_layers=layers)
    return model, model
