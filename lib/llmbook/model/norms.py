"""What keeps the size of a vector in bounds: LayerNorm and RMSNorm, in the precision of their weights."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model.config import TransformerConfig


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x²) + ε) · gain over the last axis (https://arxiv.org/abs/1910.07467).

    Under autocast queries and keys arrive in bfloat16 while the gain is float32; the mean is taken in the gain's
    precision, where torch has one kernel for it.
    """

    def forward(self, x: Float[Tensor, "*P C"]) -> Float[Tensor, "*P C"]:
        return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps)


def make_norm(config: TransformerConfig) -> nn.Module:
    """LayerNorm (https://arxiv.org/abs/1607.06450) or RMSNorm over C, as the configuration says."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.d_model, eps=config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)
