"""Gemma: RMSNorms whose gain is 1 + weight, scaled token vectors, a gated tanh GELU.

Gemma 2 (https://arxiv.org/abs/2408.00118) adds norms behind both parts of a block, bounds on scores and logits, and a
window in every second layer. Gemma 3 (https://arxiv.org/abs/2503.19786) normalises queries and keys in place of the
bounds, has five layers with a window for one without, and gives the two kinds rotary positions of their own.
"""

from typing import Any

from llmbook.interop.huggingface.kinds import Kind
from llmbook.interop.huggingface.llama import PRE_NORMS, decoder_names, our_decoder, their_decoder
from llmbook.interop.huggingface.rope import rope_settings, their_rope
from llmbook.interop.huggingface.windows import their_windows, window_settings
from llmbook.interop.names import require
from llmbook.model import TransformerConfig

_SANDWICH_NORMS = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_output_norm",
    "pre_feedforward_layernorm": "feed_forward_norm",
    "post_feedforward_layernorm": "feed_forward_output_norm",
}
_WINDOW, _FULL = "sliding_attention", "full_attention"


def _ours(values: dict[str, Any], kind: str, **choices: Any) -> TransformerConfig:
    require(values, kind, hidden_activation="gelu_pytorch_tanh", attention_bias=False)
    return our_decoder(
        values, tied=True, zero_centred_norm=True, scale_embeddings=True, feed_forward="geglu_tanh", **choices
    )


def _gemma(values: dict[str, Any]) -> TransformerConfig:
    # The first files say "gelu" in hidden_act and mean the tanh form, which hidden_activation names where it is there.
    activation = values.get("hidden_activation") or "gelu_pytorch_tanh"
    return _ours({**values, "hidden_activation": activation}, "gemma")


def _gemma2(values: dict[str, Any]) -> TransformerConfig:
    return _ours(
        values,
        "gemma2",
        norm_position="sandwich",
        attention_scale=values["query_pre_attn_scalar"] ** -0.5,
        attention_cap=values.get("attn_logit_softcapping"),
        logit_cap=values.get("final_logit_softcapping"),
        **window_settings(values, has_window=lambda layer: layer % 2 == 0),
    )


def _gemma3(values: dict[str, Any]) -> TransformerConfig:
    require(values, "gemma3_text", use_bidirectional_attention=False)
    every = values.get("sliding_window_pattern", values.get("_sliding_window_pattern", 6))
    windows = window_settings(values, has_window=lambda layer: (layer + 1) % every != 0)
    return _ours(
        values,
        "gemma3_text",
        norm_position="sandwich",
        qk_norm=True,
        attention_scale=values["query_pre_attn_scalar"] ** -0.5,
        attention_cap=values.get("attn_logit_softcapping"),
        logit_cap=values.get("final_logit_softcapping"),
        **windows,
        **_two_ropes(values, windows),
    )


def _two_ropes(values: dict[str, Any], windows: dict[str, Any]) -> dict[str, Any]:
    """The rotary positions of both kinds of layers; a base that no layer would take is left out."""
    near_base, both = values.get("rope_local_base_freq", 10_000.0), values.get("rope_parameters")
    if isinstance(both, dict) and (_FULL in both or _WINDOW in both):
        near = rope_settings({**values, "rope_parameters": both.get(_WINDOW) or {}, "rope_theta": None})
        if near["rope_scaling"] is not None:
            raise ValueError("gemma3_text stretches the rotary positions of layers with a window, which is not read")
        near_base = near["rope_theta"]
        values = {**values, "rope_parameters": both.get(_FULL) or {}, "rope_theta": None}
    elif values.get("rope_theta") is None:
        values = {**values, "rope_theta": 1_000_000.0}
    rope = rope_settings(values)
    if not windows:  # every layer reads everything
        return rope
    if not windows["full_layers"]:  # none does
        return {"rope_theta": near_base}
    return {**rope, "window_rope_theta": near_base}


def _their_gemma(config: TransformerConfig) -> dict[str, Any]:
    return {**their_decoder(config), "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}


def _their_later_gemma(config: TransformerConfig) -> dict[str, Any]:
    """``query_pre_attn_scalar`` is what the scores are divided by, squared; its square root is not always exact."""
    scale = config.d_head**-0.5 if config.attention_scale is None else config.attention_scale
    squared = scale**-2
    return {
        **_their_gemma(config),
        **their_windows(config),
        "query_pre_attn_scalar": round(squared) if round(squared) ** -0.5 == scale else squared,
        "attn_logit_softcapping": config.attention_cap,
        "final_logit_softcapping": config.logit_cap,
    }


def _their_gemma3(config: TransformerConfig) -> dict[str, Any]:
    rope = their_rope(config)["rope_parameters"]
    near_base = config.window_rope_theta or config.rope_theta
    both = {_FULL: rope, _WINDOW: {"rope_type": "default", "rope_theta": near_base}}
    values = {**_their_later_gemma(config), "rope_parameters": both}
    del values["rope_theta"]
    return values


KINDS = {
    "gemma": Kind(
        names={"gemma": decoder_names("GemmaForCausalLM", norms=PRE_NORMS)}, ours=_gemma, theirs=_their_gemma
    ),
    "gemma2": Kind(
        names={"gemma2": decoder_names("Gemma2ForCausalLM", norms=_SANDWICH_NORMS)},
        ours=_gemma2,
        theirs=_their_later_gemma,
    ),
    "gemma3_text": Kind(
        names={"gemma3_text": decoder_names("Gemma3ForCausalLM", norms=_SANDWICH_NORMS, qk_norm=True)},
        ours=_gemma3,
        theirs=_their_gemma3,
    ),
}
