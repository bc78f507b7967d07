"""BERT: post-norm, learned positions, two segments; the bare encoder."""

from typing import Any

from llmbook.interop.names import Family, pairs, require
from llmbook.model import TransformerConfig


def _names() -> Family:
    theirs, ours = "encoder.layer.{i}", "blocks.{i}"
    layer = pairs(
        *((f"{theirs}.attention.self.{n}", f"{ours}.attention.{n[0]}_proj") for n in ("query", "key", "value")),
        (f"{theirs}.attention.output.dense", f"{ours}.attention.o_proj"),
        (f"{theirs}.attention.output.LayerNorm", f"{ours}.attention_norm"),
        (f"{theirs}.intermediate.dense", f"{ours}.feed_forward.up_proj"),
        (f"{theirs}.output.dense", f"{ours}.feed_forward.down_proj"),
        (f"{theirs}.output.LayerNorm", f"{ours}.feed_forward_norm"),
    )
    tables = pairs(
        ("embeddings.word_embeddings", "embeddings.tokens"),
        ("embeddings.position_embeddings", "embeddings.positions.table"),
        ("embeddings.token_type_embeddings", "embeddings.segments"),
        parameters=("weight",),
    )
    unused = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
    return Family(tables + pairs(("embeddings.LayerNorm", "embeddings.norm")), layer, unused)


NAMES = {"bert": _names()}


def ours(values: dict[str, Any]) -> TransformerConfig:
    require(values, "bert", hidden_act="gelu", position_embedding_type="absolute")
    return TransformerConfig.bert(
        vocab_size=values["vocab_size"],
        max_seq_len=values["max_position_embeddings"],
        d_model=values["hidden_size"],
        n_layers=values["num_hidden_layers"],
        n_heads=values["num_attention_heads"],
        d_ff=values["intermediate_size"],
        n_segments=values["type_vocab_size"],
        norm_eps=values["layer_norm_eps"],
    )


def theirs(config: TransformerConfig) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": "gelu",
        "type_vocab_size": config.n_segments,
        "layer_norm_eps": config.norm_eps,
    }
