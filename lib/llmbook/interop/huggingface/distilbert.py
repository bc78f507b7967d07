"""DistilBERT: BERT without segments, half as deep, under names of its own (https://arxiv.org/abs/1910.01108)."""

from dataclasses import replace
from typing import Any

from llmbook.interop.huggingface.kinds import Kind
from llmbook.interop.names import Family, pairs, prefixed, require
from llmbook.model import TransformerConfig

_LAYER, _BLOCK = "transformer.layer.{i}", "blocks.{i}"
_OF_OTHER_HEADS = ("vocab_*", "pre_classifier.*", "classifier.*", "*embeddings.position_ids")


def _encoder() -> Family:
    tables = pairs(
        ("embeddings.word_embeddings", "embeddings.tokens"),
        ("embeddings.position_embeddings", "embeddings.positions.table"),
        parameters=("weight",),
    )
    layer = pairs(
        *((f"{_LAYER}.attention.{p}_lin", f"{_BLOCK}.attention.{p}_proj") for p in "qkv"),
        (f"{_LAYER}.attention.out_lin", f"{_BLOCK}.attention.o_proj"),
        (f"{_LAYER}.sa_layer_norm", f"{_BLOCK}.attention_norm"),
        (f"{_LAYER}.ffn.lin1", f"{_BLOCK}.feed_forward.up_proj"),
        (f"{_LAYER}.ffn.lin2", f"{_BLOCK}.feed_forward.down_proj"),
        (f"{_LAYER}.output_layer_norm", f"{_BLOCK}.feed_forward_norm"),
    )
    return Family(
        architecture="DistilBertModel",
        model="Encoder",
        outside=tables + pairs(("embeddings.LayerNorm", "embeddings.norm")),
        layer=layer,
        prefix="distilbert.",
        unused=_OF_OTHER_HEADS,
    )


def _masked_lm(encoder: Family) -> Family:
    head = (("vocab_transform", "transform"), ("vocab_layer_norm", "norm"), ("vocab_projector", "lm_head"))
    return replace(
        encoder,
        architecture="DistilBertForMaskedLM",
        model="MaskedLM",
        outside=prefixed(encoder.outside, "distilbert.", "encoder.") + pairs(*head),
        layer=prefixed(encoder.layer, "distilbert.", "encoder."),
        copies={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
        unused=tuple(name for name in _OF_OTHER_HEADS if name != "vocab_*"),
    )


def _ours(values: dict[str, Any]) -> TransformerConfig:
    require(values, "distilbert", activation="gelu")
    return TransformerConfig.bert(
        vocab_size=values["vocab_size"],
        max_seq_len=values["max_position_embeddings"],
        d_model=values["dim"],
        n_layers=values["n_layers"],
        n_heads=values["n_heads"],
        d_ff=values["hidden_dim"],
        n_segments=0,
        tie_embeddings=values.get("tie_word_embeddings", True),
    )


def _theirs(config: TransformerConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "dim": config.d_model,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "hidden_dim": config.d_ff,
        "activation": "gelu",
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }


_ENCODER = _encoder()
KINDS = {
    "distilbert": Kind(
        names={"distilbert": _ENCODER, "distilbert-masked-lm": _masked_lm(_ENCODER)}, ours=_ours, theirs=_theirs
    )
}
