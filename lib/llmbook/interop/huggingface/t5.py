"""T5: an encoder and a decoder on one token table, with a relative bias in place of positions.

Their file keeps the bias in the first layer of each stack, from where all layers use it; ours keeps it beside them.
"t5" is the first version (ReLU, the table is the output projection as well), "t5-gated" version 1.1
(https://github.com/google-research/text-to-text-transfer-transformer, "T5.1.1"): a gated GELU and a projection of
its own. Both are ``EncoderDecoderLM``.
"""

from typing import Any

from llmbook.interop.huggingface.kinds import Kind
from llmbook.interop.names import Entry, Family, pairs
from llmbook.model import TransformerConfig

_ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu_tanh", "gated-silu": "swiglu"}
_WEIGHT = ("weight",)


def _stack(stack: str, feed_forward: dict[str, str]) -> tuple[Entry, ...]:
    """One layer of "encoder" or "decoder"; the decoder's has cross-attention between the two parts."""
    theirs, ours = f"{stack}.block.{{i}}.layer", f"{stack}.blocks.{{i}}"
    parts = [("SelfAttention", "attention"), ("EncDecAttention", "cross_attention")][: 1 + (stack == "decoder")]
    names = []
    for place, (their_part, our_part) in enumerate(parts):
        names += [(f"{theirs}.{place}.{their_part}.{p}", f"{ours}.{our_part}.{p}_proj") for p in "qkvo"]
        names += [(f"{theirs}.{place}.layer_norm", f"{ours}.{our_part}_norm")]
    place = len(parts)
    names += [(f"{theirs}.{place}.DenseReluDense.{t}", f"{ours}.feed_forward.{o}") for t, o in feed_forward.items()]
    names += [(f"{theirs}.{place}.layer_norm", f"{ours}.feed_forward_norm")]
    return pairs(*names, parameters=_WEIGHT)


def _names(feed_forward: dict[str, str]) -> Family:
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias"
    outside = pairs(
        ("shared", "encoder.embeddings.tokens"),
        ("encoder.embed_tokens", "encoder.embeddings.tokens"),
        ("decoder.embed_tokens", "decoder.embeddings.tokens"),
        (f"encoder.{bias}", "encoder.position_bias.table"),
        (f"decoder.{bias}", "decoder.position_bias.table"),
        ("encoder.final_layer_norm", "encoder.final_norm"),
        ("decoder.final_layer_norm", "decoder.final_norm"),
        ("lm_head", "lm_head"),
        parameters=_WEIGHT,
    )
    copied = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    return Family(
        architecture="T5ForConditionalGeneration",
        model="EncoderDecoderLM",
        outside=outside,
        layer=_stack("encoder", feed_forward),
        decoder_layer=_stack("decoder", feed_forward),
        copies=dict.fromkeys(copied, "shared.weight"),
        unused=(
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
        ),  # never used, by theirs either
    )


_NAMES = {
    "t5": _names({"wi": "up_proj", "wo": "down_proj"}),
    "t5-gated": _names({"wi_0": "gate_proj", "wi_1": "up_proj", "wo": "down_proj"}),
}


def _ours(values: dict[str, Any]) -> TransformerConfig:
    """Our settings for theirs. Raises ValueError for one that asks for a part our model does not have."""
    activation = values.get("feed_forward_proj", "relu")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"t5 with feed_forward_proj={activation!r} is not supported, only {', '.join(_ACTIVATIONS)}")
    tied = values.get("tie_word_embeddings", True)
    scaled = values.get("scale_decoder_outputs", tied)  # a newer name for what tying used to say as well
    n_layers, n_decoder_layers = values["num_layers"], values.get("num_decoder_layers")
    return TransformerConfig.t5(
        vocab_size=values["vocab_size"],
        max_seq_len=values.get("n_positions", 512),
        d_model=values["d_model"],
        n_layers=n_layers,
        n_decoder_layers=None if n_decoder_layers == n_layers else n_decoder_layers,
        n_heads=values["num_heads"],
        d_head=values["d_kv"],
        d_ff=values["d_ff"],
        t5_buckets=values["relative_attention_num_buckets"],
        t5_max_distance=values.get("relative_attention_max_distance", 128),
        feed_forward=_ACTIVATIONS[activation],
        norm_eps=values["layer_norm_epsilon"],
        tie_embeddings=tied and scaled,
        logit_scale=values["d_model"] ** -0.5 if scaled else 1.0,
    )


def _theirs(config: TransformerConfig) -> dict[str, Any]:
    """Their settings for ours, as far as they have them; ``config_to_huggingface`` refuses the rest."""
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.max_seq_len,
        "d_model": config.d_model,
        "num_layers": config.n_layers,
        "num_decoder_layers": config.n_decoder_layers or config.n_layers,
        "num_heads": config.n_heads,
        "d_kv": config.d_head,
        "d_ff": config.d_ff,
        "relative_attention_num_buckets": config.t5_buckets,
        "relative_attention_max_distance": config.t5_max_distance,
        "feed_forward_proj": {o: t for t, o in _ACTIVATIONS.items()}.get(config.feed_forward, "relu"),
        "layer_norm_epsilon": config.norm_eps,
        "dropout_rate": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "is_encoder_decoder": True,
    }


def _variant(values: dict[str, Any]) -> str:
    return "t5-gated" if str(values.get("feed_forward_proj", "relu")).startswith("gated") else "t5"


KINDS = {"t5": Kind(names=_NAMES, ours=_ours, theirs=_theirs, variant=_variant)}
