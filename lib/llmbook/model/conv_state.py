"""The inputs that short convolutions keep, for the case that rows of a batch bring unequal numbers of new tokens.

A convolution over K positions needs the last K - 1 inputs of each row before the new ones, and no more. Rows that bring
fewer tokens than others are padded on the left; what came before must then stand behind the padding, next to the new:

    K = 3, T = 3 new columns        what is at hand              the window to be read
    a has read … p q, brings r s t      p q │ r s t                  p q │ r s t
    b has read … u v, brings w          u v │ · · w                  · · │ u v w     (· is never read)
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmbook.model.page_pool import PagedSequence


class ConvState:
    """The inputs of one forward pass in which row b of T columns brings ``n_new[b]`` tokens of ``sequences[b]``.

    The sequences have what they had until ``advance``: a pass that fails leaves nothing behind.
    """

    def __init__(self, sequences: Sequence[PagedSequence], n_new: Sequence[int]):
        self.sequences = sequences
        self.before = torch.stack([sequence.inputs for sequence in sequences], dim=2)  # [L, 2, B, K - 1, C]
        self.after = torch.empty_like(self.before)
        n_before, q_len = self.before.shape[3], max(n_new)
        padding = q_len - torch.tensor(n_new)[:, None]  # [B, 1]
        column = torch.arange(n_before + q_len)  # [K - 1 + T]
        source = torch.where(column < padding + n_before, (column - padding).clamp(min=0), column)
        row = torch.arange(len(n_new))[:, None]
        self._source = (row * len(column) + source).to(self.before.device)  # [B, K - 1 + T], counted through all rows

    def window(self, index: int, place: int, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B KT C"]:
        """What convolution ``place`` of layer ``index`` reads: the last K - 1 inputs and the new ones behind them."""
        at_hand = torch.cat([self.before[index, place], x], dim=1)  # [B, K - 1 + T, C]
        window = at_hand.flatten(0, 1)[self._source]
        self.after[index, place] = window[:, x.shape[1] :]
        return window

    def advance(self) -> None:
        """Let every sequence have the last inputs of this pass."""
        for sequence, inputs in zip(self.sequences, self.after.unbind(2), strict=True):
            sequence.inputs = inputs
