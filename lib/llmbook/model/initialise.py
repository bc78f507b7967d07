"""How weights begin."""

import math
import re

from torch import nn

from llmbook.model.config import TransformerConfig

STREAM_WRITERS = ("o_proj", "down_proj")  # the last projections of attention and feed-forward net, by name


def initialise(module: nn.Module, config: TransformerConfig) -> None:
    """GPT-2's initialisation: normal with ``init_std``, biases 0, and each projection that writes into the residual
    stream divided by the square root of their number, so that the stream does not grow with depth (or 0:
    ``zero_init``). They are 2 L, and 3 L with cross-attention, the third addition of a block; the experts of one block
    add as one."""
    parts = dict(module.named_modules())
    writers = {name for name in parts if name.endswith(STREAM_WRITERS)}
    n_additions = len({re.sub(r"\bexperts\.\d+", "experts", name) for name in writers})
    for name, part in parts.items():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            std = config.init_std / math.sqrt(n_additions) if name in writers else config.init_std
            nn.init.normal_(part.weight, std=0.0 if name in writers and config.zero_init else std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
