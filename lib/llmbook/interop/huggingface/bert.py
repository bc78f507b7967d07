"""BERT: post-norm, learned positions, two segments; bare, or with a head for words, for texts or for tokens.

The bare encoder is ``Encoder``, the others are ``MaskedLM``, ``SequenceClassifier(pooling="cls")`` and
``TokenClassifier``. The pooler of a bare encoder's file belongs to a head and is left aside.
"""

from typing import Any

from llmbook.interop.huggingface.kinds import Kind
from llmbook.interop.names import Entry, Family, our_sizes, pairs, prefixed, require, their_sizes
from llmbook.model import TransformerConfig

# One file often holds the heads of pre-training, whatever its reader wants; position_ids count from 0.
_OF_OTHER_HEADS = ("*pooler.dense.*", "cls.*", "*embeddings.position_ids")


def _encoder() -> Family:
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
    outside = tables + pairs(("embeddings.LayerNorm", "embeddings.norm"))
    return Family(
        architecture="BertModel",
        model="Encoder",
        outside=outside,
        layer=layer,
        prefix="bert.",
        unused=_OF_OTHER_HEADS,
    )


def _with_head(architecture: str, model: str, head: tuple[Entry, ...], copies: dict[str, str] | None = None) -> Family:
    return Family(
        architecture=architecture,
        model=model,
        outside=prefixed(ENCODER.outside, "bert.", "encoder.") + head,
        layer=prefixed(ENCODER.layer, "bert.", "encoder."),
        copies=copies or {},
        prefix="bert.",
        unused=_OF_OTHER_HEADS,
    )


ENCODER = _encoder()
_WORDS = "cls.predictions"
_NAMES = {
    "bert": ENCODER,
    "bert-masked-lm": _with_head(
        "BertForMaskedLM",
        "MaskedLM",
        (
            *pairs((f"{_WORDS}.transform.dense", "transform"), (f"{_WORDS}.transform.LayerNorm", "norm")),
            *pairs((f"{_WORDS}.decoder", "lm_head")),
            Entry(f"{_WORDS}.bias", ("lm_head.bias",)),  # one bias under two names
        ),
        copies={
            f"{_WORDS}.decoder.weight": "bert.embeddings.word_embeddings.weight",
            f"{_WORDS}.decoder.bias": f"{_WORDS}.bias",
        },
    ),
    "bert-classifier": _with_head(
        "BertForSequenceClassification",
        "SequenceClassifier",
        pairs(("bert.pooler.dense", "pooler"), ("classifier", "classifier")),
    ),
    "bert-token-classifier": _with_head(
        "BertForTokenClassification", "TokenClassifier", pairs(("classifier", "classifier"))
    ),
}


def ours(values: dict[str, Any], kind: str = "bert") -> TransformerConfig:
    """Our settings for theirs. Raises ValueError for one that asks for a part our model does not have."""
    require(values, kind, hidden_act="gelu", position_embedding_type="absolute")
    require(values, kind, is_decoder=False, add_cross_attention=False)  # a decoder's attention is causal
    return TransformerConfig.bert(
        **our_sizes(values),
        n_segments=values["type_vocab_size"],
        norm_eps=values["layer_norm_eps"],
        tie_embeddings=values.get("tie_word_embeddings", True),
    )


def theirs(config: TransformerConfig) -> dict[str, Any]:
    """Their settings for ours, as far as they have them; ``config_to_huggingface`` refuses the rest."""
    return {
        **their_sizes(config),
        "hidden_act": "gelu",
        "type_vocab_size": config.n_segments,
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }


KINDS = {
    "bert": Kind(names=_NAMES, ours=ours, theirs=theirs, also={"BertForPreTraining": "bert-masked-lm"}),
}
