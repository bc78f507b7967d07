"""Hugging Face's names and settings for our models, both ways: GPT-2, Llama, BERT.

One module a family, each with ``NAMES`` (a table per kind of model), ``ours(values)`` and ``theirs(config)`` for the
contents of ``config.json``. No weight is changed on the way but for layout: GPT-2 stores its matrices transposed and
its three projections in one. Nothing here imports ``transformers``: a state dict and a ``config.json`` are enough.
"""

from typing import Any

from torch import Tensor

from llmbook.interop.huggingface import bert, gpt2, llama
from llmbook.interop.names import Family, translate, translate_back
from llmbook.model import TransformerConfig

FAMILIES: dict[str, Family] = {**gpt2.NAMES, **llama.NAMES, **bert.NAMES}
_MODULES = {"gpt2": gpt2, "llama": llama, "bert": bert}


def from_huggingface(weights: dict[str, Tensor], family: str, *, n_layers: int) -> dict[str, Tensor]:
    """Their state dict under our names, ready for ``load_state_dict``.

    A tied output projection that their file leaves out is filled in from the token table.

    Raises:
        ValueError: a tensor is missing or unknown; the first names are given.
    """
    return translate(weights, _family(family), family=family, n_layers=n_layers)


def to_huggingface(weights: dict[str, Tensor], family: str, *, n_layers: int) -> dict[str, Tensor]:
    """Our state dict under their names: the inverse of ``from_huggingface``. Raises ValueError if one is missing."""
    return translate_back(weights, _family(family), n_layers=n_layers)


def config_from_huggingface(values: dict[str, Any]) -> TransformerConfig:
    """Our configuration for the contents of their ``config.json``.

    Raises:
        ValueError: the architecture is none of ``FAMILIES``, or uses a part our model does not have.
    """
    kind = values.get("model_type")
    if kind not in _MODULES:
        raise ValueError(f"no names for the architecture {kind!r}; known are {', '.join(_MODULES)}")
    return _MODULES[kind].ours(values)


def config_to_huggingface(config: TransformerConfig, family: str) -> dict[str, Any]:
    """The contents of a ``config.json`` that makes their model of this family compute what ours does.

    Raises:
        ValueError: the family is unknown, or has no setting for a choice of ours; the choice is named.
    """
    _family(family)
    kind = family.split("-")[0]
    values = {"model_type": kind, **_MODULES[kind].theirs(config)}
    back = config_from_huggingface(values)
    lost = [
        f"{name}={value!r}"
        for name, value in config.to_dict().items()
        if name not in _NOT_THEIRS and value != back.to_dict()[name]
    ]
    if lost:
        raise ValueError(f"{family} has no setting for {', '.join(lost)}")
    return values


# How ours is computed or trained, not what.
_NOT_THEIRS = ("attention_backend", "init_std", "zero_init", "dropout")


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"no names for the architecture {name!r}; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]
