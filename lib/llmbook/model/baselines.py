"""What came before attention, in the same clothes: language models by recurrence and by convolution.

They take token numbers and return logits like ``DecoderLM``, so every loss, loop and evaluation serves all three.
Neither has a cache, attention weights or a way to skip padding.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.body import Output


class LSTMLM(nn.Module):
    """Reads left to right and keeps one vector of memory (https://www.bioinf.jku.at/publications/older/2604.pdf).

    A distance of n tokens is n steps of the recurrence, one after the other.
    """

    def __init__(self, *, vocab_size: int, d_model: int, n_layers: int = 1):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.lstm = nn.LSTM(d_model, d_model, n_layers, batch_first=True)
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None) -> Output:
        _refuse_padding(self, attention_mask)
        hidden, _ = self.lstm(self.tokens(input_ids))  # [B, T, C]
        return Output(logits=self.lm_head(hidden), last_hidden_state=hidden)

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


class CausalConv(nn.Module):
    """A convolution over time that sees the present and the ``kernel_size - 1`` positions before it."""

    def __init__(self, d_model: int, *, kernel_size: int):
        super().__init__()
        self.past = kernel_size - 1
        self.conv = nn.Conv1d(d_model, d_model, kernel_size)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        padded = F.pad(x.transpose(1, 2), (self.past, 0))  # [B, C, past + T]
        return self.conv(padded).transpose(1, 2)


class ConvLM(nn.Module):
    """A stack of causal convolutions with residual connections (https://arxiv.org/abs/1803.01271).

    It sees exactly ``receptive_field`` tokens, the present one included; what lies further back does not exist.
    """

    def __init__(self, *, vocab_size: int, d_model: int, n_layers: int = 2, kernel_size: int = 3):
        super().__init__()
        if kernel_size < 2:
            raise ValueError(f"kernel_size={kernel_size} sees no other token; give 2 or more")
        self.receptive_field = 1 + n_layers * (kernel_size - 1)
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.convs = nn.ModuleList(CausalConv(d_model, kernel_size=kernel_size) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layers))
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None) -> Output:
        _refuse_padding(self, attention_mask)
        x = self.tokens(input_ids)  # [B, T, C]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + F.gelu(conv(norm(x)))
        return Output(logits=self.lm_head(x), last_hidden_state=x)

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


def _refuse_padding(model: nn.Module, attention_mask: Tensor | None) -> None:
    if attention_mask is not None:
        raise ValueError(f"{type(model).__name__} reads every token it is given: cut sequences to one length instead")
