"""Llama, and the decoders that differ from it in a part or two: Mistral, Qwen 2 and 3, SmolLM3, OLMo 2, Phi-3.

No biases but Qwen 2's for queries, keys and values; rotary positions in the order of pairs that ours has too. What
sets a kind apart is in its entry of ``KINDS``; Gemma, which differs in more, is in ``gemma.py``.
"""

from collections.abc import Callable
from typing import Any

from llmbook.interop.huggingface.kinds import Kind
from llmbook.interop.huggingface.rope import rope_settings, their_rope
from llmbook.interop.huggingface.windows import their_windows, window_settings
from llmbook.interop.names import Entry, Family, our_sizes, pairs, require, their_sizes
from llmbook.model import TransformerConfig

PRE_NORMS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "feed_forward_norm"}
OUTPUT_NORMS = {
    "post_attention_layernorm": "attention_output_norm",
    "post_feedforward_layernorm": "feed_forward_output_norm",
}
# Their defaults lie beyond a small vocabulary.
_NO_SPECIAL_TOKENS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
_THEIRS, _OURS = "model.layers.{i}", "backbone.blocks.{i}"


def decoder_names(
    architecture: str,
    *,
    norms: dict[str, str] = PRE_NORMS,
    qk_norm: bool = False,
    qkv_bias: bool = False,
    stacked: bool = False,
) -> Family:
    """The table of one kind; ``stacked``: queries, keys and values in one tensor, gate and up projection in another."""
    attention, feed_forward = f"{_OURS}.attention", f"{_OURS}.feed_forward"
    single = ["o_proj"] if stacked else ["q_proj", "k_proj", "v_proj", "o_proj"]
    norms_of_heads = ["q_norm", "k_norm"] if qk_norm else []
    names = [(f"{_THEIRS}.self_attn.{p}", f"{attention}.{p}") for p in (*single, *norms_of_heads)]
    single = ["down_proj"] if stacked else ["gate_proj", "up_proj", "down_proj"]
    names += [(f"{_THEIRS}.mlp.{p}", f"{feed_forward}.{p}") for p in single]
    names += [(f"{_THEIRS}.{theirs}", f"{_OURS}.{ours}") for theirs, ours in norms.items()]
    layer = pairs(*names, parameters=("weight",))
    if stacked:
        qkv = tuple(f"{attention}.{p}_proj.weight" for p in "qkv")
        gate_up = tuple(f"{feed_forward}.{p}_proj.weight" for p in ("gate", "up"))
        shares = ("n_heads", "n_kv_heads", "n_kv_heads")
        layer += (
            Entry(f"{_THEIRS}.self_attn.qkv_proj.weight", qkv, shares=shares),
            Entry(f"{_THEIRS}.mlp.gate_up_proj.weight", gate_up),
        )
    if qkv_bias:
        biased = ((f"{_THEIRS}.self_attn.{p}_proj", f"{attention}.{p}_proj") for p in "qkv")
        layer += pairs(*biased, parameters=("bias",))
    outside = (
        ("model.embed_tokens", "backbone.embeddings.tokens"),
        ("model.norm", "backbone.final_norm"),
        ("lm_head", "lm_head"),
    )
    return Family(
        architecture=architecture,
        outside=pairs(*outside, parameters=("weight",)),
        layer=layer,
        copies={"lm_head.weight": "model.embed_tokens.weight"},
        prefix="model.",
        unused=("*.rotary_emb.inv_freq",),
    )


def our_decoder(values: dict[str, Any], *, tied: bool, **choices: Any) -> TransformerConfig:
    """Our settings for those all these kinds have; ``tied`` is their default, ``choices`` are the kind's own."""
    rope = {} if "rope_theta" in choices else rope_settings(values)
    return TransformerConfig.llama(
        **our_sizes(values),
        n_kv_heads=values.get("num_key_value_heads"),
        d_head=values.get("head_dim"),
        norm_eps=values["rms_norm_eps"],
        tie_embeddings=values.get("tie_word_embeddings", tied),
        **rope,
        **choices,
    )


def their_decoder(config: TransformerConfig) -> dict[str, Any]:
    """The settings all these kinds have, under their names."""
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


def _kind(
    name: str,
    family: Family,
    *,
    tied: bool = False,
    choices: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: {},
    also_theirs: Callable[[TransformerConfig], dict[str, Any]] = lambda config: {},
) -> Kind:
    def ours(values: dict[str, Any]) -> TransformerConfig:
        require(values, name, hidden_act="silu", attention_bias=False, mlp_bias=False, rope_interleaved=False)
        return our_decoder(values, tied=tied, **choices(values))

    def theirs(config: TransformerConfig) -> dict[str, Any]:
        return {**their_decoder(config), **also_theirs(config)}

    return Kind(names={name: family}, ours=ours, theirs=theirs)


def _qwen_windows(values: dict[str, Any]) -> dict[str, Any]:
    """Layers from ``max_window_layers`` on have a window, if windows are used at all."""
    if not values.get("use_sliding_window", False):
        return {}
    first = values.get("max_window_layers", 28)
    return window_settings(values, has_window=lambda layer: layer >= first)


def _their_qwen_windows(config: TransformerConfig) -> dict[str, Any]:
    return {"use_sliding_window": config.sliding_window is not None, **their_windows(config)}


def _smollm3(values: dict[str, Any]) -> dict[str, Any]:
    require(values, "smollm3", use_sliding_window=False)
    n_layers, every = values["num_hidden_layers"], values.get("no_rope_layer_interval", 4)
    turned = values.get("no_rope_layers")  # 1 where positions are turned, despite the name
    if turned is None:
        turned = [int((i + 1) % every != 0) for i in range(n_layers)]
    if not isinstance(turned, list) or len(turned) != n_layers:
        raise ValueError(f"smollm3 with no_rope_layers={turned!r}: expected a list of {n_layers}")
    return {"nope_layers": tuple(i for i, turn in enumerate(turned) if not turn)}


def _their_smollm3(config: TransformerConfig) -> dict[str, Any]:
    turned = [int(i not in config.nope_layers) for i in range(config.n_layers)]
    return {"no_rope_layers": turned, "use_sliding_window": False, **_NO_SPECIAL_TOKENS}


def _phi3(values: dict[str, Any]) -> dict[str, Any]:
    return {**rope_settings(values, partial=True), **window_settings(values)}


def _their_phi3(config: TransformerConfig) -> dict[str, Any]:
    rope = their_rope(config)
    rope["rope_parameters"] |= {"partial_rotary_factor": config.rotary_fraction}
    length = config.rope_scaling.original_max_seq_len if config.rope_scaling else config.max_seq_len
    return {**rope, **their_windows(config), **_NO_SPECIAL_TOKENS, "original_max_position_embeddings": length}


KINDS = {
    "llama": _kind("llama", decoder_names("LlamaForCausalLM")),
    "mistral": _kind(
        "mistral", decoder_names("MistralForCausalLM"), choices=window_settings, also_theirs=their_windows
    ),
    "qwen2": _kind(
        "qwen2",
        decoder_names("Qwen2ForCausalLM", qkv_bias=True),
        choices=lambda values: {"qkv_bias": True, **_qwen_windows(values)},
        also_theirs=_their_qwen_windows,
    ),
    "qwen3": _kind(
        "qwen3",
        decoder_names("Qwen3ForCausalLM", qk_norm=True),
        choices=lambda values: {"qk_norm": True, **_qwen_windows(values)},
        also_theirs=_their_qwen_windows,
    ),
    "smollm3": _kind(
        "smollm3",
        decoder_names("SmolLM3ForCausalLM"),
        tied=True,
        choices=_smollm3,
        also_theirs=_their_smollm3,
    ),
    "olmo2": _kind(
        "olmo2",
        decoder_names("Olmo2ForCausalLM", qk_norm=True, norms=OUTPUT_NORMS),
        choices=lambda values: {"qk_norm": True, "qk_norm_width": "all", "norm_position": "output"},
    ),
    "phi3": _kind("phi3", decoder_names("Phi3ForCausalLM", stacked=True), choices=_phi3, also_theirs=_their_phi3),
}
