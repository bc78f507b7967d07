"""What models with a read-out over the vocabulary share: whether it is tied is asked of the weights.

Tied weights (https://arxiv.org/abs/1608.05859) are one tensor under two names. A setting can say so and be wrong:
merging a LoRA on ``lm_head``, or assigning another layer to it, unties the two and leaves the setting behind. A model
built from that setting would lose the head without an error. So the configuration of a model follows its tensors, and
a tied model only loads weights whose two tensors are equal.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from llmbook.model.config import TransformerConfig
from llmbook.model.counted import Counted

HEAD, TABLE = "lm_head.weight", "embeddings.tokens.weight"


class LanguageModel(Counted):
    """A model with a token table, at ``token_table``, and ``lm_head``, which projects onto the vocabulary."""

    token_table: ClassVar[str]

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self._config = config
        self.register_load_state_dict_pre_hook(_require_tied)

    @property
    def config(self) -> TransformerConfig:
        """The settings, with ``tie_embeddings`` as the tensors have it.

        Where ``lm_head`` has no weight of its own, because it is quantised or adapted, the setting stands.
        """
        tied = self._is_tied()
        return (
            self._config if tied in (None, self._config.tie_embeddings) else self._config.replace(tie_embeddings=tied)
        )

    def _is_tied(self) -> bool | None:
        """None where it cannot be told."""
        head = getattr(getattr(self, "lm_head", None), "weight", None)
        if not isinstance(head, nn.Parameter):
            return None
        return head is getattr(self.get_submodule(self.token_table), "weight", None)


def config_of_weights(config: TransformerConfig, weights: Mapping[str, Tensor]) -> TransformerConfig:
    """``config`` with ``tie_embeddings=False`` if these weights, under our names, hold a head beside another table."""
    tables = [tensor for name, tensor in weights.items() if name.endswith(TABLE)]
    if HEAD in weights and not all(_same(weights[HEAD], table) for table in tables):
        return config.replace(tie_embeddings=False)
    return config


def _same(one: Tensor, other: Tensor) -> bool:
    if type(one) not in (Tensor, nn.Parameter) or "meta" in (one.device.type, other.device.type):
        return True  # spread over processes, or without numbers: there is nothing to compare here
    if one.shape != other.shape:
        return False
    if (one.data_ptr(), one.stride(), one.dtype) == (other.data_ptr(), other.stride(), other.dtype):
        return True
    return torch.allclose(one, other.to(one), rtol=0, atol=0, equal_nan=True)


def _require_tied(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    first: dict[nn.Parameter, str] = {}
    for name, own in module.named_parameters(remove_duplicate=False):
        one, other = first.setdefault(own, prefix + name), prefix + name
        if {one, other} <= state.keys() and not _same(state[one], state[other]):
            advice = ": build it with tie_embeddings=False" if HEAD in (name, one.removeprefix(prefix)) else ""
            raise ValueError(
                f"{one} and {other} differ, but this {type(module).__name__} has one tensor for both and would keep "
                f"only one of them{advice}"
            )
