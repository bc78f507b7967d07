"""Llama: no biases, and rotary positions in the order of pairs that ours has too."""

from typing import Any

from llmbook.interop.huggingface.rope import rope_settings, their_rope
from llmbook.interop.names import Family, our_sizes, pairs, require, their_sizes
from llmbook.model import TransformerConfig


def _names() -> Family:
    theirs, ours = "model.layers.{i}", "backbone.blocks.{i}"
    attention = tuple(
        (f"{theirs}.self_attn.{p}", f"{ours}.attention.{p}") for p in ("q_proj", "k_proj", "v_proj", "o_proj")
    )
    feed_forward = tuple(
        (f"{theirs}.mlp.{p}", f"{ours}.feed_forward.{p}") for p in ("gate_proj", "up_proj", "down_proj")
    )
    norms = (
        (f"{theirs}.input_layernorm", f"{ours}.attention_norm"),
        (f"{theirs}.post_attention_layernorm", f"{ours}.feed_forward_norm"),
    )
    outside = (
        ("model.embed_tokens", "backbone.embeddings.tokens"),
        ("model.norm", "backbone.final_norm"),
        ("lm_head", "lm_head"),
    )
    only = ("weight",)
    return Family(
        architecture="LlamaForCausalLM",
        outside=pairs(*outside, parameters=only),
        layer=pairs(*attention, *feed_forward, *norms, parameters=only),
        copies={"lm_head.weight": "model.embed_tokens.weight"},
        prefix="model.",
        unused=("*.rotary_emb.inv_freq",),
    )


NAMES = {"llama": _names()}


def ours(values: dict[str, Any]) -> TransformerConfig:
    """Our settings for theirs. Raises ValueError for one that asks for a part our model does not have."""
    require(values, "llama", hidden_act="silu", attention_bias=False, mlp_bias=False)
    rope = rope_settings(values)
    return TransformerConfig.llama(
        **our_sizes(values),
        n_kv_heads=values.get("num_key_value_heads"),
        d_head=values.get("head_dim"),
        **rope,
        norm_eps=values["rms_norm_eps"],
        tie_embeddings=values.get("tie_word_embeddings", False),
    )


def theirs(config: TransformerConfig) -> dict[str, Any]:
    """Their settings for ours, as far as they have them; ``config_to_huggingface`` refuses the rest."""
    return {
        **their_sizes(config),
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        **their_rope(config),
        "rms_norm_eps": config.norm_eps,
        "attention_dropout": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }
