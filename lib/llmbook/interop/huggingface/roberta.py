"""RoBERTa and XLM-R: BERT's encoder with names of their own for its head, and two rows of positions that none takes.

Their first two positions are set aside for padding: the first token stands at 2.
"""

from dataclasses import replace
from typing import Any

from llmbook.interop.huggingface import bert
from llmbook.interop.huggingface.kinds import Kind
from llmbook.interop.names import Entry, Family, pairs, prefixed, require
from llmbook.model import TransformerConfig

SET_ASIDE = 2
_OF_OTHER_HEADS = ("*pooler.dense.*", "lm_head.*", "*embeddings.position_ids")


def _shifted(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(replace(e, skipped=SET_ASIDE) if "position_embeddings" in e.theirs else e for e in entries)


def _names(architecture: str) -> tuple[Family, Family]:
    encoder = replace(
        bert.ENCODER,
        architecture=f"{architecture}Model",
        outside=_shifted(bert.ENCODER.outside),
        prefix="roberta.",
        unused=_OF_OTHER_HEADS,
    )
    head = (
        *pairs(("lm_head.dense", "transform"), ("lm_head.layer_norm", "norm"), ("lm_head.decoder", "lm_head")),
        Entry("lm_head.bias", ("lm_head.bias",)),  # one bias under two names
    )
    words = replace(
        encoder,
        architecture=f"{architecture}ForMaskedLM",
        model="MaskedLM",
        outside=prefixed(encoder.outside, "roberta.", "encoder.") + head,
        layer=prefixed(encoder.layer, "roberta.", "encoder."),
        copies={
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
        unused=tuple(name for name in _OF_OTHER_HEADS if name != "lm_head.*"),
    )
    return encoder, words


def _kind(name: str, architecture: str) -> Kind:
    def ours(values: dict[str, Any]) -> TransformerConfig:
        require(values, name, pad_token_id=SET_ASIDE - 1)
        length = values["max_position_embeddings"]
        if type(length) is not int or length <= SET_ASIDE:
            raise ValueError(f"{name} with max_position_embeddings={length!r}: the first {SET_ASIDE} are set aside")
        return bert.ours({**values, "max_position_embeddings": length - SET_ASIDE}, name)

    def theirs(config: TransformerConfig) -> dict[str, Any]:
        length = config.max_seq_len + SET_ASIDE
        return {**bert.theirs(config), "max_position_embeddings": length, "pad_token_id": SET_ASIDE - 1}

    encoder, words = _names(architecture)
    return Kind(names={name: encoder, f"{name}-masked-lm": words}, ours=ours, theirs=theirs)


KINDS = {"roberta": _kind("roberta", "Roberta"), "xlm-roberta": _kind("xlm-roberta", "XLMRoberta")}
