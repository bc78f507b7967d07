"""A language model by convolution: every position is computed at once, from a fixed number of tokens before it."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.backbone import Output
from llmbook.model.baselines.common import BaselineConfig, refuse_padding
from llmbook.model.counted import Counted
from llmbook.model.devices import require_device


class CausalConv(nn.Module):
    """A convolution over time that sees the present and the ``kernel_size - 1`` positions before it."""

    def __init__(self, d_model: int, *, kernel_size: int):
        super().__init__()
        self.past = kernel_size - 1
        self.conv = nn.Conv1d(d_model, d_model, kernel_size)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        padded = F.pad(x.transpose(1, 2), (self.past, 0))  # [B, C, past + T]
        return self.conv(padded).transpose(1, 2)


class ConvLM(Counted):
    """A stack of causal convolutions with residual connections (https://arxiv.org/abs/1803.01271).

    It sees exactly ``receptive_field`` tokens, the present one included; what lies further back does not exist.
    Raises ValueError for a ``kernel_size`` below 2.
    """

    def __init__(self, *, vocab_size: int, d_model: int, n_layers: int = 2, kernel_size: int = 3):
        super().__init__()
        if kernel_size < 2:
            raise ValueError(f"kernel_size={kernel_size} sees no other token; give 2 or more")
        self.receptive_field = 1 + n_layers * (kernel_size - 1)
        self.config = BaselineConfig(vocab_size=vocab_size, max_seq_len=self.receptive_field)
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.convs = nn.ModuleList(CausalConv(d_model, kernel_size=kernel_size) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layers))
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None) -> Output:
        """Logits [B, T, V] for the token after each. Raises ValueError for an ``attention_mask``: it reads all."""
        refuse_padding(self, attention_mask)
        require_device(self.tokens.weight, input_ids=input_ids)
        x = self.tokens(input_ids)  # [B, T, C]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + F.gelu(conv(norm(x)))
        return Output(logits=self.lm_head(x), last_hidden_state=x)
