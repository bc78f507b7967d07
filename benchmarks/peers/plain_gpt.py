"""The plainest GPT in torch, the yardstick of the training benchmark: what nanoGPT's CPU recipe trains.

Written here from the architecture's description; nothing is copied. The choices are those of
https://github.com/karpathy/nanoGPT (its CPU recipe: 4 layers, 4 heads, 128, context 64, batch 12, no biases, no
dropout): pre-norm, learned positions, one projection for q, k and v, torch's fused causal attention, exact GELU,
the head tied to the token table. Its optimiser is AdamW on matrices and tables with decay 0.1; we give it the
fused one, which its script keeps for CUDA, so the yardstick is rather faster than slower.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainBlock(nn.Module):
    def __init__(self, d_model: int, n_heads: int, bias: bool):
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(d_model, bias=bias)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)
        self.feed_forward_norm = nn.LayerNorm(d_model, bias=bias)
        self.up = nn.Linear(d_model, 4 * d_model, bias=bias)
        self.down = nn.Linear(4 * d_model, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)  # [B, T, C] each
        q, k, v = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B, H, T, D]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))


class PlainGPT(nn.Module):
    def __init__(self, *, vocab_size: int, seq_len: int, d_model: int, n_layers: int, n_heads: int, bias: bool = False):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(seq_len, d_model)
        self.blocks = nn.ModuleList(PlainBlock(d_model, n_heads, bias) for _ in range(n_layers))
        self.final_norm = nn.LayerNorm(d_model, bias=bias)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                shrink = math.sqrt(2 * n_layers) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 / shrink)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """[B, T] -> logits [B, T, V]."""
        x = self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.final_norm(x))
