"""Several heads on one decoder, each for a token further ahead (https://arxiv.org/abs/2404.19737)."""

from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model.backbone import Output, vocab_logits
from llmbook.model.linear import Linear
from llmbook.model.transformer import DecoderLM


class MultiTokenLM(nn.Module):
    """A decoder with ``n_future`` heads: head k, from 1 on, gives the token k places after the one just read.

    Head 1 is the decoder's own. Each other adds one linear layer of the last state to that state, and reads it out with
    the same ``lm_head``; it starts at 0, and so as a copy of head 1. (The paper's heads are whole blocks.) Raises
    ValueError for fewer than 1 head.
    """

    def __init__(self, decoder: DecoderLM, *, n_future: int):
        super().__init__()
        if n_future < 1:
            raise ValueError(f"n_future={n_future}: there is at least one token to predict")
        self.decoder, self.n_future = decoder, n_future
        width = decoder.config.d_model
        layers = [Linear(width, width, bias=False) for _ in range(n_future - 1)]
        for layer in layers:
            nn.init.zeros_(layer.weight)
        self.ahead = nn.ModuleList(layers)

    def forward(self, *inputs, **keywords) -> Output:
        """The decoder's output, with the logits of head 1; the arguments are the decoder's."""
        return self.decoder(*inputs, **keywords)

    def futures(self, *inputs, **keywords) -> list[Float[Tensor, "B T V"]]:
        """The logits of every head, head 1 first."""
        out = self.decoder(*inputs, **keywords)
        state = out.last_hidden_state
        return [out.logits, *(vocab_logits(self.decoder, state + layer(state)) for layer in self.ahead)]
