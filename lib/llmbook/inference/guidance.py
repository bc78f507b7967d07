"""Guidance by a negative prompt: two readers of the same new text, one behind each prompt.

    prompt           "Write a review: It was"     p(next)   ┐
    negative prompt  "Write a bad review: It was" n(next)   ┴─▶  log n + scale · (log p − log n)

To everything that asks a ``DecodingState`` the pair is one.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.inference.decoding_state import DecodingState
from llmbook.inference.processors import guide
from llmbook.inference.sampling import Guidance


def make_reader(
    model: nn.Module, input_ids: Tensor, guidance: Guidance | None, *, max_len: int, use_cache: bool = True, **reading
) -> "DecodingState | GuidedReader":
    """A ``DecodingState`` of these prompts, guided if asked for; the options are those of ``DecodingState``."""
    reader = DecodingState(model, input_ids, max_len=max_len, use_cache=use_cache, **reading)
    if guidance is None:
        return reader
    n_rows, n_prompt = input_ids.shape
    if guidance.negative_ids:
        negative = torch.tensor([guidance.negative_ids], device=input_ids.device).expand(n_rows, -1)
    else:
        negative = input_ids[:, -1:]
    longest = negative.shape[1] + max_len - n_prompt
    return GuidedReader(reader, DecodingState(model, negative, max_len=longest, use_cache=use_cache), guidance.scale)


class GuidedReader:
    """As ``DecodingState``; ``reader`` has the prompts, ``negative`` the negative prompt, both the same new text."""

    def __init__(self, reader: DecodingState, negative: DecodingState, scale: float):
        self.reader, self.negative, self.scale = reader, negative, scale
        self.n_prompt, self.n_negative = reader.ids.shape[1], negative.ids.shape[1]

    @property
    def ids(self) -> Tensor:
        return self.reader.ids

    @property
    def mask(self) -> Tensor | None:
        return self.reader.mask

    @property
    def n_passes(self) -> int:
        return self.reader.n_passes + self.negative.n_passes

    def logits(self, n: int = 1) -> Float[Tensor, "B n V"]:
        """Guided log-probabilities after each of the last ``n`` tokens. Raises ValueError if there are not so many."""
        return guide(self.reader.logits(n), self.negative.logits(n), self.scale)

    def append(self, tokens: Int[Tensor, "B n"]) -> None:
        """Write on, behind both prompts."""
        self.reader.append(tokens)
        self.negative.append(tokens)

    def rewrite(self, ids: Int[Tensor, "B T"]) -> None:
        """Replace the texts by others that begin with the same prompts."""
        self.reader.rewrite(ids)
        beginning = self.negative.ids[:, : self.n_negative]
        self.negative.rewrite(torch.cat([beginning, ids[:, self.n_prompt :]], dim=1))

    def reorder(self, rows: Int[Tensor, "B_new"]) -> None:
        """Let row i go on from what row ``rows[i]`` was."""
        self.reader.reorder(rows)
        self.negative.reorder(rows)
