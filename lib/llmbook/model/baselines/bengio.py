r"""The neural language model of 2003: a table of vectors and one hidden layer.

The net of https://www.jmlr.org/papers/v3/bengio03a.html reads the vectors of the last n−1 tokens, one behind the other:

$$x = [C(w_{t-n+2}); \dots; C(w_t)] \qquad \mathrm{logits} = b + W x + U \tanh(d + H x)$$

A token is a point whose neighbours are tokens used alike, so what is learned of one holds for the others: what a table
of counts cannot do. Every position of the window still has its own columns of H, and nothing lies beyond it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.backbone import Output
from llmbook.model.baselines.common import BaselineConfig, refuse_padding
from llmbook.model.counted import Counted
from llmbook.model.devices import require_device


class BengioLM(Counted):
    """p(next token | the last ``context_len`` tokens) by a net with one hidden layer.

    context_len is n−1 for an order n. With ``direct`` the window also reaches the logits without the hidden layer (W
    above). Before the beginning of a text stand zero vectors. Raises ValueError for a ``context_len`` below 1.
    """

    def __init__(
        self, *, vocab_size: int, d_model: int, context_len: int = 4, d_hidden: int = 128, direct: bool = False
    ):
        super().__init__()
        if context_len < 1:
            raise ValueError(f"context_len={context_len} sees no token; give 1 or more")
        self.config = BaselineConfig(vocab_size=vocab_size, max_seq_len=context_len)
        self.context_len = context_len
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.hidden = nn.Linear(context_len * d_model, d_hidden)
        self.lm_head = nn.Linear(d_hidden, vocab_size)
        self.direct = nn.Linear(context_len * d_model, vocab_size, bias=False) if direct else None

    def forward(self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None) -> Output:
        """Logits [B, T, V] for the token after each. Raises ValueError for an ``attention_mask``: it reads all."""
        refuse_padding(self, attention_mask)
        require_device(self.tokens.weight, input_ids=input_ids)
        windows = self._windows(self.tokens(input_ids))  # [B, T, context_len · C]
        hidden = torch.tanh(self.hidden(windows))  # [B, T, d_hidden]
        logits = self.lm_head(hidden)
        if self.direct is not None:
            logits = logits + self.direct(windows)
        return Output(logits=logits, last_hidden_state=hidden)

    def _windows(self, vectors: Float[Tensor, "B T C"]) -> Float[Tensor, "B T W"]:
        """At every position the vectors of the last ``context_len`` tokens, oldest first, in one."""
        padded = F.pad(vectors, (0, 0, self.context_len - 1, 0))
        return padded.unfold(1, self.context_len, 1).transpose(2, 3).flatten(2)  # [B, T, C, n-1] -> [B, T, (n-1)·C]
