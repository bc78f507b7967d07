"""A language model by recurrence: one vector of memory, rewritten at every token."""

from jaxtyping import Int
from torch import Tensor, nn

from llmbook.model.backbone import Output
from llmbook.model.baselines.common import BaselineConfig, refuse_padding
from llmbook.model.counted import Counted
from llmbook.model.devices import require_device

NO_LIMIT = 2**31


class LSTMLM(Counted):
    """Reads left to right and keeps one vector of memory (https://www.bioinf.jku.at/publications/older/2604.pdf).

    A distance of n tokens is n steps of the recurrence, one after the other.
    """

    def __init__(self, *, vocab_size: int, d_model: int, n_layers: int = 1):
        super().__init__()
        self.config = BaselineConfig(vocab_size=vocab_size, max_seq_len=NO_LIMIT)
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.lstm = nn.LSTM(d_model, d_model, n_layers, batch_first=True)
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None) -> Output:
        """Logits [B, T, V] for the token after each. Raises ValueError for an ``attention_mask``: it reads all."""
        refuse_padding(self, attention_mask)
        require_device(self.tokens.weight, input_ids=input_ids)
        hidden, _ = self.lstm(self.tokens(input_ids))  # [B, T, C]
        return Output(logits=self.lm_head(hidden), last_hidden_state=hidden)
