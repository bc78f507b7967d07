"""Hugging Face's names and settings for our models, both ways: GPT-2, Llama and its relatives, Gemma, BERT, T5.

Each module has ``KINDS``: for each ``model_type`` its tables of names and its settings (``kinds.py``). No weight is
changed on the way but for layout: GPT-2 stores its matrices transposed and its three projections in one. Nothing here
imports ``transformers``: a state dict and a ``config.json`` are enough.
"""

from typing import Any

from torch import Tensor

from llmbook.interop.huggingface import bert, distilbert, gemma, gpt2, llama, roberta, t5
from llmbook.interop.huggingface.kinds import MISSING, Kind
from llmbook.interop.names import Family, translate, translate_back
from llmbook.model import TransformerConfig

KINDS: dict[str, Kind] = {
    name: kind for module in (gpt2, llama, gemma, bert, roberta, distilbert, t5) for name, kind in module.KINDS.items()
}
FAMILIES: dict[str, Family] = {family: names for kind in KINDS.values() for family, names in kind.names.items()}


def from_huggingface(
    weights: dict[str, Tensor],
    family: str,
    *,
    n_layers: int,
    n_decoder_layers: int | None = None,
    config: TransformerConfig | None = None,
) -> dict[str, Tensor]:
    """Their state dict under our names, ready for ``load_state_dict``.

    A tied tensor that their file leaves out is filled in from the one it is tied to.

    Args:
        family: one of ``FAMILIES``.
        n_layers: depth; ``n_decoder_layers``: depth of a second stack, the same unless given.
        config: ours; needed for "phi3", whose file stacks queries, keys and values of unequal height.

    Raises:
        ValueError: a tensor is missing or unknown; the first names are given.
    """
    return translate(weights, _family(family), n_layers=n_layers, n_decoder_layers=n_decoder_layers, config=config)


def to_huggingface(
    weights: dict[str, Tensor], family: str, *, n_layers: int, n_decoder_layers: int | None = None
) -> dict[str, Tensor]:
    """Our state dict under their names: the inverse of ``from_huggingface``, with its arguments and errors."""
    return translate_back(weights, _family(family), n_layers=n_layers, n_decoder_layers=n_decoder_layers)


def config_from_huggingface(values: dict[str, Any]) -> TransformerConfig:
    """Our configuration for the contents of their ``config.json``; dropout, which is for training, is left at 0.

    Raises:
        ValueError: the architecture has no table of names, uses a part our model does not have, or a setting is
            missing that ours needs.
    """
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        missing = f", which has {MISSING[kind]}" if isinstance(kind, str) and kind in MISSING else ""
        raise ValueError(f"no names for the architecture {kind!r}{missing}; known are {', '.join(KINDS)}")
    try:
        return KINDS[kind].ours(values)
    except KeyError as missing:
        raise ValueError(f"this {kind} configuration has no {missing}: is the config.json whole?") from None
    except (TypeError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"this {kind} configuration has an entry of a strange type: {error}") from None


def family_of(values: dict[str, Any]) -> str:
    """Which of ``FAMILIES`` the contents of a ``config.json`` describe. Raises ValueError for a head not known here."""
    config_from_huggingface(values)  # refuses a kind that is unknown
    return KINDS[values["model_type"]].family(values)


def config_to_huggingface(config: TransformerConfig, family: str) -> dict[str, Any]:
    """The contents of a ``config.json`` that makes their model of this family compute what ours does.

    Raises:
        ValueError: the family is unknown, or has no setting for a choice of ours; the choice is named.
    """
    table = _family(family)
    kind = next(name for name, kind in KINDS.items() if family in kind.names)
    values = {"model_type": kind, "architectures": [table.architecture], **KINDS[kind].theirs(config)}
    asked, got = config.to_dict(), config_from_huggingface(values).to_dict()
    asked["n_decoder_layers"] = None if config.n_decoder_layers == config.n_layers else config.n_decoder_layers
    lost = [f"{name}={value!r}" for name, value in asked.items() if name not in _NOT_THEIRS and value != got[name]]
    if lost:
        raise ValueError(f"{family} has no setting for {', '.join(lost)}")
    return values


_NOT_THEIRS = ("attention_backend", "init_std", "zero_init", "dropout")  # how ours is run or trained, not what it is


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"no names for the architecture {name!r}; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]
