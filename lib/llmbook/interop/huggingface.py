"""Hugging Face's names for our weights, one two-way table a family: GPT-2, Llama, BERT.

No weight is changed on the way but for layout: GPT-2 stores its matrices transposed and its three projections in
one. Nothing here imports ``transformers``: a state dict and a ``config.json`` are enough.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmbook.model import TransformerConfig


@dataclass(frozen=True)
class Entry:
    """One of their tensors is one of ours, or several of ours stacked; ``{i}`` stands for the layer."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Family:
    """The names of one architecture: tensors outside the layers, tensors of layer ``{i}``, tensors left aside."""

    outside: tuple[Entry, ...]
    layer: tuple[Entry, ...]
    unused: tuple[str, ...] = ()

    def entries(self, n_layers: int) -> list[Entry]:
        def at(entry: Entry, i: int) -> Entry:
            return Entry(entry.theirs.format(i=i), tuple(n.format(i=i) for n in entry.ours), entry.transposed)

        return [*self.outside, *(at(e, i) for i in range(n_layers) for e in self.layer)]


def _pairs(*names: tuple[str, str], parameters: tuple[str, ...] = ("weight", "bias")) -> tuple[Entry, ...]:
    """Modules that carry the same parameters under two names."""
    return tuple(Entry(f"{theirs}.{p}", (f"{ours}.{p}",)) for theirs, ours in names for p in parameters)


def _gpt2() -> Family:
    h, ours, qkv = "transformer.h.{i}", "body.blocks.{i}", ("q_proj", "k_proj", "v_proj")
    dense = {
        f"{h}.attn.c_attn": tuple(f"{ours}.attention.{p}" for p in qkv),
        f"{h}.attn.c_proj": (f"{ours}.attention.o_proj",),
        f"{h}.mlp.c_fc": (f"{ours}.feed_forward.up_proj",),
        f"{h}.mlp.c_proj": (f"{ours}.feed_forward.down_proj",),
    }
    weights = tuple(Entry(f"{t}.weight", tuple(f"{o}.weight" for o in os), True) for t, os in dense.items())
    biases = tuple(Entry(f"{t}.bias", tuple(f"{o}.bias" for o in os)) for t, os in dense.items())
    norms = _pairs((f"{h}.ln_1", f"{ours}.attention_norm"), (f"{h}.ln_2", f"{ours}.feed_forward_norm"))
    outside = _pairs(
        ("transformer.wte", "body.embeddings.tokens"),
        ("transformer.wpe", "body.embeddings.positions.table"),
        ("lm_head", "lm_head"),
        parameters=("weight",),
    ) + _pairs(("transformer.ln_f", "body.final_norm"))
    return Family(outside, weights + biases + norms)


def _llama() -> Family:
    theirs, ours = "model.layers.{i}", "body.blocks.{i}"
    attention = tuple((f"{theirs}.self_attn.{p}", f"{ours}.attention.{p}") for p in _PROJECTIONS)
    feed_forward = tuple(
        (f"{theirs}.mlp.{p}", f"{ours}.feed_forward.{p}") for p in ("gate_proj", "up_proj", "down_proj")
    )
    norms = (
        (f"{theirs}.input_layernorm", f"{ours}.attention_norm"),
        (f"{theirs}.post_attention_layernorm", f"{ours}.feed_forward_norm"),
    )
    outside = (
        ("model.embed_tokens", "body.embeddings.tokens"),
        ("model.norm", "body.final_norm"),
        ("lm_head", "lm_head"),
    )
    only = ("weight",)
    return Family(_pairs(*outside, parameters=only), _pairs(*attention, *feed_forward, *norms, parameters=only))


def _bert() -> Family:
    theirs, ours = "encoder.layer.{i}", "blocks.{i}"
    layer = _pairs(
        *((f"{theirs}.attention.self.{n}", f"{ours}.attention.{n[0]}_proj") for n in ("query", "key", "value")),
        (f"{theirs}.attention.output.dense", f"{ours}.attention.o_proj"),
        (f"{theirs}.attention.output.LayerNorm", f"{ours}.attention_norm"),
        (f"{theirs}.intermediate.dense", f"{ours}.feed_forward.up_proj"),
        (f"{theirs}.output.dense", f"{ours}.feed_forward.down_proj"),
        (f"{theirs}.output.LayerNorm", f"{ours}.feed_forward_norm"),
    )
    tables = _pairs(
        ("embeddings.word_embeddings", "embeddings.tokens"),
        ("embeddings.position_embeddings", "embeddings.positions.table"),
        ("embeddings.token_type_embeddings", "embeddings.segments"),
        parameters=("weight",),
    )
    unused = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
    return Family(tables + _pairs(("embeddings.LayerNorm", "embeddings.norm")), layer, unused)


_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
FAMILIES: dict[str, Family] = {"gpt2": _gpt2(), "llama": _llama(), "bert": _bert()}


def from_huggingface(weights: dict[str, Tensor], family: str, *, n_layers: int) -> dict[str, Tensor]:
    """Their state dict under our names, ready for ``load_state_dict``.

    A tied output projection that their file leaves out is filled in from the token table.

    Raises:
        ValueError: a tensor is missing or unknown; the first names are given.
    """
    table, left = _family(family), dict(weights)
    if "lm_head.weight" not in left:
        tied = next((e.theirs for e in table.outside if e.ours == ("body.embeddings.tokens.weight",)), None)
        if tied in left:
            left["lm_head.weight"] = left[tied]
    ours, missing = {}, []
    for entry in table.entries(n_layers):
        tensor = left.pop(entry.theirs, None)
        if tensor is None:
            missing.append(entry.theirs)
            continue
        tensor = tensor.t() if entry.transposed else tensor
        ours.update(zip(entry.ours, tensor.chunk(len(entry.ours)), strict=True))
    unknown = [name for name in left if name not in table.unused]
    if missing or unknown:
        raise ValueError(
            f"not the weights of a {family} model with {n_layers} layers: "
            f"missing {missing[:4]}, unknown {unknown[:4]} ({len(missing)} and {len(unknown)} in all)"
        )
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def to_huggingface(weights: dict[str, Tensor], family: str, *, n_layers: int) -> dict[str, Tensor]:
    """Our state dict under their names: the inverse of ``from_huggingface``."""
    theirs = {}
    for entry in _family(family).entries(n_layers):
        tensor = torch.cat([weights[name] for name in entry.ours])
        theirs[entry.theirs] = (tensor.t() if entry.transposed else tensor).contiguous()
    return theirs


def config_from_huggingface(values: dict[str, Any]) -> TransformerConfig:
    """Our configuration for the contents of their ``config.json``.

    Raises:
        ValueError: the architecture is none of ``FAMILIES``, or uses a part our model does not have.
    """
    family = values.get("model_type")
    _family(family)
    activation = values.get("activation_function") or values.get("hidden_act")
    known = {"gpt2": ("gelu_new",), "llama": ("silu",), "bert": ("gelu",)}[family]
    if activation not in known:
        raise ValueError(f"{family} with activation {activation!r} is not supported, only {known[0]!r}")
    if family == "gpt2":
        return TransformerConfig.gpt2(
            vocab_size=values["vocab_size"],
            max_seq_len=values["n_positions"],
            d_model=values["n_embd"],
            n_layers=values["n_layer"],
            n_heads=values["n_head"],
            norm_eps=values["layer_norm_epsilon"],
        )
    shared = dict(
        vocab_size=values["vocab_size"],
        max_seq_len=values["max_position_embeddings"],
        d_model=values["hidden_size"],
        n_layers=values["num_hidden_layers"],
        n_heads=values["num_attention_heads"],
        d_ff=values["intermediate_size"],
    )
    if family == "bert":
        return TransformerConfig.bert(**shared, n_segments=values["type_vocab_size"], norm_eps=values["layer_norm_eps"])
    rope = values.get("rope_parameters") or {}
    scaling = values.get("rope_scaling") or {}
    if {rope.get("rope_type", "default"), scaling.get("rope_type", "default")} != {"default"}:
        raise ValueError(f"scaled rotary positions are not read from a config: {rope or scaling}")
    return TransformerConfig.llama(
        **shared,
        n_kv_heads=values.get("num_key_value_heads"),
        d_head=values.get("head_dim"),
        rope_theta=values.get("rope_theta") or rope.get("rope_theta", 10_000.0),
        norm_eps=values["rms_norm_eps"],
        tie_embeddings=values.get("tie_word_embeddings", False),
    )


def _family(name: str | None) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"no names for the architecture {name!r}; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]
