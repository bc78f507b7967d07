"""What keeps the size of a vector in bounds: LayerNorm and RMSNorm, in the precision of their weights."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model.config import TransformerConfig


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x²) + ε) · gain over the last axis (https://arxiv.org/abs/1910.07467).

    Under autocast queries and keys arrive in bfloat16 while the gain is float32; the mean is taken in the gain's
    precision, where torch has one kernel for it. ``zero_centred``: the gain is 1 + weight, so that weight decay pulls
    it towards 1.
    """

    def __init__(self, width: int, *, eps: float = 1e-5, zero_centred: bool = False):
        super().__init__(width, eps=eps)
        self.zero_centred = zero_centred
        if zero_centred:
            nn.init.zeros_(self.weight)

    @property
    def gain(self) -> Float[Tensor, "C"]:
        return 1 + self.weight if self.zero_centred else self.weight

    def forward(self, x: Float[Tensor, "*P C"]) -> Float[Tensor, "*P C"]:
        return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.gain, self.eps)


def make_norm(config: TransformerConfig) -> nn.Module:
    """LayerNorm (https://arxiv.org/abs/1607.06450) or RMSNorm over C, as the configuration says."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.d_model, eps=config.norm_eps, zero_centred=config.zero_centred_norm)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)
