"""GPT-2: matrices transposed (its ``Conv1D`` multiplies from the right), queries, keys and values in one."""

from typing import Any

from llmbook.interop.huggingface.kinds import Kind
from llmbook.interop.names import Entry, Family, pairs, require
from llmbook.model import TransformerConfig


def _names() -> Family:
    h, ours, qkv = "transformer.h.{i}", "backbone.blocks.{i}", ("q_proj", "k_proj", "v_proj")
    dense = {
        f"{h}.attn.c_attn": tuple(f"{ours}.attention.{p}" for p in qkv),
        f"{h}.attn.c_proj": (f"{ours}.attention.o_proj",),
        f"{h}.mlp.c_fc": (f"{ours}.feed_forward.up_proj",),
        f"{h}.mlp.c_proj": (f"{ours}.feed_forward.down_proj",),
    }
    weights = tuple(Entry(f"{t}.weight", tuple(f"{o}.weight" for o in os), True) for t, os in dense.items())
    biases = tuple(Entry(f"{t}.bias", tuple(f"{o}.bias" for o in os)) for t, os in dense.items())
    norms = pairs((f"{h}.ln_1", f"{ours}.attention_norm"), (f"{h}.ln_2", f"{ours}.feed_forward_norm"))
    outside = pairs(
        ("transformer.wte", "backbone.embeddings.tokens"),
        ("transformer.wpe", "backbone.embeddings.positions.table"),
        ("lm_head", "lm_head"),
        parameters=("weight",),
    ) + pairs(("transformer.ln_f", "backbone.final_norm"))
    return Family(
        architecture="GPT2LMHeadModel",
        outside=outside,
        layer=weights + biases + norms,
        copies={"lm_head.weight": "transformer.wte.weight"},
        prefix="transformer.",
        unused=("*h.*.attn.bias", "*h.*.attn.masked_bias"),  # the causal mask, as buffers
    )


_NAMES = {"gpt2": _names()}


def _ours(values: dict[str, Any]) -> TransformerConfig:
    """Our settings for theirs. Raises ValueError for one that asks for a part our model does not have."""
    require(values, "gpt2", activation_function="gelu_new", add_cross_attention=False)
    require(values, "gpt2", scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)
    return TransformerConfig.gpt2(
        vocab_size=values["vocab_size"],
        max_seq_len=values["n_positions"],
        d_model=values["n_embd"],
        n_layers=values["n_layer"],
        n_heads=values["n_head"],
        d_ff=values.get("n_inner"),
        norm_eps=values["layer_norm_epsilon"],
        tie_embeddings=values.get("tie_word_embeddings", True),
    )


def _theirs(config: TransformerConfig) -> dict[str, Any]:
    """Their settings for ours, as far as they have them; ``config_to_huggingface`` refuses the rest."""
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.max_seq_len,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout),
        "tie_word_embeddings": config.tie_embeddings,
    }


KINDS = {"gpt2": Kind(names=_NAMES, ours=_ours, theirs=_theirs)}
