"""What every model of this package shares with ``DecoderLM``'s way of being asked."""

from dataclasses import asdict, dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """What generation and checkpoints need to know of a model: its vocabulary and how many tokens it reads."""

    vocab_size: int
    max_seq_len: int

    def to_dict(self) -> dict:
        return asdict(self)


def refuse_padding(model: nn.Module, attention_mask: Tensor | None) -> None:
    """Raise ValueError if there is a mask: these models read every token they are given."""
    if attention_mask is not None:
        raise ValueError(f"{type(model).__name__} reads every token it is given: cut sequences to one length instead")
