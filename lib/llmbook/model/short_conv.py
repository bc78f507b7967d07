r"""A short causal convolution: before a part reads the stream, each channel mixes in its own last few values.

$$y_t = x_t + \sum_{j=0}^{K-1} w_j \odot x_{t-j}$$

What stood one or two places before is what a prediction needs most often, and attention spends heads on finding it.
Here it costs K numbers a channel. Primer has such convolutions behind the projections of attention
(https://arxiv.org/abs/2109.08668), recurrent layers in front of theirs; before both parts of a block, with a path
around them, they are the Canon layers A and C of https://arxiv.org/abs/2512.17351. All w start at 0, so that a model
begins as the one without them.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.cache import LayerCache


class ShortConv(nn.Module):
    """``weight`` [K, C]: a row for each position, the present last (transposed, that of a depthwise ``nn.Conv1d``).

    ``place`` says which of a block's convolutions this is: a cache keeps what each has read.
    """

    def __init__(self, *, d_model: int, width: int, place: int = 0):
        super().__init__()
        self.width, self.place = width, place
        self.weight = nn.Parameter(torch.zeros(width, d_model))

    def forward(
        self, x: Float[Tensor, "B T C"], *, real: Bool[Tensor, "B T"] | None = None, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T C"]:
        """Padding, where ``real`` is False, reads as 0, as what stands before the first token does.

        Raises:
            ValueError: the cache keeps only keys and values, so the convolution's earlier inputs are lost.
        """
        if real is not None:
            x = x.masked_fill(~real[..., None], 0.0)
        if cache is None:
            window = F.pad(x, (0, 0, self.width - 1, 0))  # [B, K - 1 + T, C]
        elif hasattr(cache, "look_back"):
            window = cache.look_back(self.place, x)
        else:
            raise ValueError(
                f"conv_width={self.width}: a {type(cache).__name__} keeps keys and values, not what short "
                "convolutions look back on; use a KVCache"
            )
        y = x
        for j, tap in enumerate(self.weight):  # [C]
            y = torch.addcmul(y, window.narrow(1, j, x.shape[1]), tap)
        return y
