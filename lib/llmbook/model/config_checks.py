"""Which configurations can be: every combination of settings that cannot work is refused here, by name.

A setting that a model would ignore is refused as well: whoever gives it expects another model.
"""

import math
from collections.abc import Mapping
from typing import Any

from llmbook.model.experts import Experts
from llmbook.model.mixers import MIXERS, Mixer
from llmbook.model.rotary import RopeScaling

SIZES = ("vocab_size", "max_seq_len", "d_model", "n_layers", "n_heads", "t5_buckets", "t5_max_distance")
_DERIVED_SIZES = ("n_kv_heads", "d_head", "d_ff")
_OPTIONAL_SIZES = ("n_decoder_layers", "sliding_window", "conv_width")
_POSITIVE = ("rope_theta", "norm_eps", "init_std", "logit_scale")
_POSITIVE_OR_NONE = ("attention_scale", "attention_cap", "logit_cap", "window_rope_theta")
_OF_ATTENTION = {  # settings that only attention reads, and their values that ask for nothing
    "positions": ("none", "sinusoidal", "learned"), "sliding_window": (None,), "attention_scale": (None,),
    "attention_cap": (None,), "qk_norm": (False,),
}  # fmt: skip
_FLAGS = ("zero_centred_norm", "qkv_bias")


def check(config: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError, naming the setting and what would be possible, unless the configuration can be built.

    ``choices`` are the values that settings with names as values may have.
    """
    if config.d_head is None:
        raise ValueError(
            f"d_model={config.d_model} is not divisible by n_heads={config.n_heads}; change one or give d_head"
        )
    for name in _DERIVED_SIZES:
        at_least_one(config, name)
    for name in _OPTIONAL_SIZES:
        if getattr(config, name) is not None:
            at_least_one(config, name)
    if config.n_heads % config.n_kv_heads:
        raise ValueError(f"n_heads={config.n_heads} is not a multiple of n_kv_heads={config.n_kv_heads}")
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise ValueError(f"{name}={getattr(config, name)!r} is not one of {', '.join(map(repr, allowed))}")
    for name in (*_POSITIVE, *_POSITIVE_OR_NONE):
        value = getattr(config, name)
        is_number = isinstance(value, int | float) and 0 < value < math.inf
        if not is_number and not (value is None and name in _POSITIVE_OR_NONE):
            raise ValueError(f"{name}={value!r} must be positive and finite")
    for name in _FLAGS:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name}={getattr(config, name)!r} is neither True nor False")
    if not isinstance(config.n_segments, int) or config.n_segments < 0:
        raise ValueError(f"n_segments={config.n_segments!r} must be 0, for none, or a whole number above")
    if not (isinstance(config.dropout, int | float) and 0 <= config.dropout < 1):
        raise ValueError(f"dropout={config.dropout!r} is not a probability below 1")
    _check_positions(config)
    _check_layers(config)
    _check_parts(config)
    if config.qk_norm_width != "head" and not config.qk_norm:
        raise ValueError(f"qk_norm_width={config.qk_norm_width!r} needs qk_norm=True")
    if config.zero_centred_norm and config.norm != "rmsnorm":
        raise ValueError(f"zero_centred_norm=True is for norm='rmsnorm', not {config.norm!r}")


def _check_parts(config: Any) -> None:
    """Mixers and experts: values of their kinds, and attention somewhere for the settings that are attention's."""
    if not isinstance(config.mixers, tuple) or not all(isinstance(m, Mixer | None) for m in config.mixers):
        raise ValueError(f"mixers={config.mixers!r}: give a tuple of {', '.join(MIXERS)} mixers, or None for attention")
    depth = max(config.n_layers, config.n_decoder_layers or 0)
    if len(config.mixers) > depth:
        raise ValueError(f"mixers={config.mixers!r} are more than the {depth} layers they are for")
    if not isinstance(config.experts, Experts | None):
        raise ValueError(f"experts={config.experts!r}: give Experts(n_experts=…, n_active=…), or None")
    if config.mixers and None not in config.mixers:
        for name, usual in _OF_ATTENTION.items():
            if getattr(config, name) not in usual:
                raise ValueError(
                    f"{name}={getattr(config, name)!r} is attention's, and no layer of mixers has attention"
                )


def at_least_one(config: Any, name: str) -> None:
    """Raise ValueError unless this size is a whole number from 1 on."""
    value = getattr(config, name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")


def _check_positions(config: Any) -> None:
    rope = config.positions == "rope"
    if rope and config.d_head % 2:
        raise ValueError(f"rotary positions turn pairs of numbers: d_head={config.d_head} must be even")
    if config.positions == "sinusoidal" and config.d_model % 2:
        raise ValueError(f"sinusoidal positions come in pairs: d_model={config.d_model} must be even")
    if not isinstance(config.rope_scaling, RopeScaling | None):
        raise ValueError(f"rope_scaling={config.rope_scaling!r}: give a RopeScaling(kind=…, factor=…, …)")
    fraction = config.rotary_fraction
    if not (isinstance(fraction, int | float) and 0 < fraction <= 1):
        raise ValueError(f"rotary_fraction={fraction!r} is no share of a head above 0 and up to 1")
    defaults = {"rope_scaling": None, "rotary_fraction": 1.0, "nope_layers": (), "window_rope_theta": None}
    for name, default in defaults.items():
        if not rope and getattr(config, name) != default:
            raise ValueError(f"{name} needs positions='rope', not {config.positions!r}")
    if rope and (config.d_rotary % 2 or config.d_rotary < 2):
        raise ValueError(
            f"rotary_fraction={fraction} of d_head={config.d_head} is {config.d_rotary}: rotary positions turn pairs"
        )
    if config.positions == "t5" and not 4 <= config.t5_buckets <= config.t5_max_distance:
        raise ValueError(
            f"t5_buckets={config.t5_buckets} must lie between 4 and t5_max_distance={config.t5_max_distance}: half of "
            "them hold one distance each"
        )


def _check_layers(config: Any) -> None:
    """Settings of single layers: the layers must be there, and what is said of them must matter."""
    depth = max(config.n_layers, config.n_decoder_layers or 0)
    for name in ("full_layers", "nope_layers"):
        layers = getattr(config, name)
        if not isinstance(layers, tuple) or not all(type(i) is int for i in layers):
            raise ValueError(f"{name}={layers!r}: give a tuple of layers, counted from 0")
        if list(layers) != sorted(set(layers)):
            raise ValueError(f"{name}={layers}: name each layer once, in order")
        if layers and not 0 <= layers[0] <= layers[-1] < depth:
            raise ValueError(f"{name}={layers}: the layers are 0 to {depth - 1}")
    if config.full_layers and config.sliding_window is None:
        raise ValueError(f"full_layers={config.full_layers} are exceptions from sliding_window, which is None")
    if config.full_layers and len(config.full_layers) == depth:
        raise ValueError(f"full_layers={config.full_layers} are all layers: give sliding_window=None instead")
    if len(config.nope_layers) == depth:
        raise ValueError(f"nope_layers={config.nope_layers} are all layers: give positions='none' instead")
    if config.window_rope_theta is not None and not config.full_layers:
        raise ValueError(
            f"window_rope_theta={config.window_rope_theta} is for layers with a window beside full_layers, of which "
            "there are none: give rope_theta alone"
        )
