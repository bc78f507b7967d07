"""A language model as one file that a page can run: ``export_model`` writes it, assets/playground/gpt.js runs it.

The choice this file makes: half precision and no cleverness. Eight letters and the length of a JSON header; the
header with the configuration, the tokenizer and where each tensor lies; then the weights, row by row, as float16.
Two bytes a number cost about three digits of it, so a page and a notebook agree only where both were rounded:
``round_to_half`` does to the model what the file does to the weights.

What follows from the configuration by formulas (angles of rotary positions, sinusoids, biases by distance) is
computed here, by the model's own parts, and stored as float32: the page then needs no second form of each formula.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from llmbook.playground.reading import MAGIC
from llmbook.storage import write_file

GATED = ("swiglu", "geglu", "geglu_tanh")
# Choices of a model that a page cannot make: the plain value, and what the others would need.
LEFT_OUT: dict[str, tuple[Any, str]] = {
    "conv_width": (None, "short convolutions"),
    "mixers": ((), "mixers other than attention"),
    "experts": (None, "experts"),
    "zero_centred_norm": (False, "gains of 1 + weight"),
    "qk_norm_width": ("head", "norm over all heads together"),
    "rotary_fraction": (1.0, "heads that are turned in part"),
    "nope_layers": ((), "layers of different kinds"),
    "full_layers": ((), "layers of different kinds"),
    "window_rope_theta": (None, "layers of different kinds"),
    "attention_cap": (None, "bound on scores"),
    "logit_cap": (None, "bound on logits"),
}
IMPLIED = (*LEFT_OUT, "qkv_bias")  # known without being said, so that older pages read the file too
LARGEST = float(np.finfo(np.float16).max)


class PageError(ValueError):
    """A model that a page cannot run, or a page that cannot be made as asked; the message says why."""


def export_model(model: Any, tokenizer: Any, path: str | os.PathLike[str]) -> Path:
    """Write ``model`` (a ``DecoderLM``) and its tokenizer as one file for the page; returns its path.

    The file appears whole or not at all. Weights are rounded to float16, the model itself is left as it is.
    Raises PageError where ``exported_bytes`` does.
    """
    return write_file(path, exported_bytes(model, tokenizer))


def exported_bytes(model: Any, tokenizer: Any) -> bytes:
    """The contents of that file.

    Raises:
        PageError: the model is not a plain ``DecoderLM`` (adapters must be merged first) or has a part that a page
            leaves out (``LEFT_OUT``), float16 cannot hold a weight, or the tokenizer is of another size than the model
            or cannot run on a page.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "positions"):
        raise PageError(f"a page cannot run a {type(model).__name__}: give a DecoderLM")
    for name, (plain, what) in LEFT_OUT.items():
        if (value := getattr(config, name)) != plain:
            raise PageError(f"{name}={value!r}: a page has no {what}; use {name}={plain!r}")
    if config.norm_position not in ("pre", "post"):
        raise PageError(f"norm_position={config.norm_position!r}: a page has no norms there; use 'pre' or 'post'")
    if config.qkv_bias != config.bias:
        raise PageError(f"qkv_bias={config.qkv_bias}: a page has biases everywhere or nowhere, as bias={config.bias}")
    state = model.state_dict()
    wanted = weight_shapes(config)
    held = {name for name in state if name not in _replaced(config)}
    if strange := sorted(held ^ wanted.keys()):
        raise PageError(
            f"{type(model).__name__} cannot be exported: it {'has' if strange[0] in held else 'lacks'} {strange[0]!r}, "
            "unlike a plain DecoderLM; merge adapters and undo quantisation first"
        )
    if tokenizer.vocab_size != config.vocab_size:
        raise PageError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model {config.vocab_size}: give the one it was "
            "trained with"
        )
    arrays = {name: _half(name, _numbers(state[name], shape)) for name, shape in wanted.items()}
    derived, amplitude = _derived(model)
    arrays |= {name: np.ascontiguousarray(array, dtype="<f4") for name, array in derived.items()}

    tensors, blocks, offset = {}, [], 0
    for name, array in arrays.items():
        tensors[name] = {"shape": list(array.shape), "offset": offset, "dtype": array.dtype.str[1:]}
        blocks.append(
            array.tobytes().ljust(-(-array.nbytes // 4) * 4, b"\0")
        )  # a float32 must start at a multiple of 4
        offset += len(blocks[-1])
    header = {
        "config": {name: value for name, value in config.to_dict().items() if name not in IMPLIED},
        "tokenizer": _tokenizer(tokenizer),
        "start": _start(tokenizer),
        "n_parameters": sum(int(p.numel()) for p in model.parameters()),
        "rope_amplitude": amplitude,
        "tensors": tensors,
        "bytes": offset,
    }
    text = json.dumps(header, ensure_ascii=True, separators=(",", ":")).encode()
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % 8)
    return b"".join([MAGIC, len(text).to_bytes(4, "little"), text, *blocks])


def round_to_half(model: Any) -> Any:
    """Round every weight of ``model`` to float16, in place, and keep its precision; returns the same model."""
    for parameter in model.parameters():
        parameter.data.copy_(parameter.data.half())
    return model


def weight_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """The weights of a ``DecoderLM``, by the names of its ``state_dict``, with their shapes; a tied table once."""
    C, F, D, bias = config.d_model, config.d_ff, config.d_head, config.bias
    q, kv = config.n_heads * D, config.n_kv_heads * D
    shapes: dict[str, tuple[int, ...]] = {"backbone.embeddings.tokens.weight": (config.vocab_size, C)}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = (C,)
        if bias and config.norm == "layernorm":
            shapes[f"{name}.bias"] = (C,)

    if config.positions == "learned":
        shapes["backbone.embeddings.positions.table.weight"] = (config.max_seq_len, C)
    if config.n_segments:
        shapes["backbone.embeddings.segments.weight"] = (config.n_segments, C)
    if config.embedding_norm:
        norm("backbone.embeddings.norm")
    for layer in range(config.n_layers):
        block = f"backbone.blocks.{layer}."
        norm(f"{block}attention_norm")
        for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            linear(f"{block}attention.{name}", rows, C)
        linear(f"{block}attention.o_proj", C, q)
        if config.qk_norm:
            shapes |= {f"{block}attention.{name}.weight": (D,) for name in ("q_norm", "k_norm")}
        norm(f"{block}feed_forward_norm")
        for name in ("gate_proj", "up_proj") if config.feed_forward in GATED else ("up_proj",):
            linear(f"{block}feed_forward.{name}", F, C)
        linear(f"{block}feed_forward.down_proj", C, F)
    if config.norm_position == "pre":
        norm("backbone.final_norm")
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, C)
    return shapes


def _replaced(config: Any) -> set[str]:
    """What the file holds in another form: a tied table under its second name, and T5's table of biases."""
    tied = {"lm_head.weight"} if config.tie_embeddings else set()
    return tied | {"backbone.position_bias.table.weight"}


def _derived(model: Any) -> tuple[dict[str, np.ndarray], float]:
    """Where tokens stand, as tables that are not trained, and the factor of cosines and sines.

    ``positions`` [S, C] is added to the embeddings, ``frequencies`` [D/2] turn queries and keys, ``distance_bias``
    [H, S] is added to the scores by how far back the key lies; S is ``max_seq_len``.
    """
    backbone, length = model.backbone, model.config.max_seq_len
    if model.config.positions == "sinusoidal":
        index = backbone.embeddings.tokens.weight.new_ones(length).long().cumsum(0) - 1  # 0 … S - 1, on its device
        return {"positions": _numbers(backbone.embeddings.positions(index))}, 1.0
    if backbone.rotary is not None:
        return {"frequencies": _numbers(backbone.rotary.frequencies)}, float(backbone.rotary.amplitude)
    if backbone.position_bias is not None:
        return {"distance_bias": _numbers(backbone.position_bias(1, length))[0, :, 0, ::-1]}, 1.0
    return {}, 1.0


def _numbers(tensor: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    array = tensor.detach().float().cpu().numpy()
    if shape is not None and array.shape != shape:
        raise PageError(f"a weight has shape {array.shape} where its configuration says {shape}")
    return array


def _half(name: str, array: np.ndarray) -> np.ndarray:
    if not (np.abs(array) <= LARGEST).all():  # false for NaN as well
        worst = array.flat[int(np.argmax(~(np.abs(array) <= LARGEST)))]
        raise PageError(f"{name} holds {worst:g}, which float16 cannot (its largest number is {LARGEST:g})")
    return array.astype("<f2")


def _start(tokenizer: Any) -> list[int]:
    """What stands for an empty prompt, since a model must read something: a special token, a line end, or the first
    token there is."""
    special = _tokenizer(tokenizer).get("special_tokens")
    if special:
        return [min(special.values())]
    try:
        return list(tokenizer.encode("\n"))
    except ValueError:
        return [0]


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer as gpt.js opens it; Hugging Face's only where it is the byte-level BPE that ours is."""
    kind, state = getattr(tokenizer, "kind", None), tokenizer.to_dict()
    if kind in ("char", "byte", "bpe"):
        return {"kind": kind, **state}
    parts = state.get("tokenizer", {}) if kind == "hf" else {}
    model, before = parts.get("model", {}), parts.get("pre_tokenizer") or {}
    ours = (
        model.get("type") == "BPE"
        and not model.get("byte_fallback")
        and not model.get("ignore_merges")
        and parts.get("normalizer") is None
        and parts.get("post_processor") is None
        and before.get("type") == "ByteLevel"
        and not before.get("add_prefix_space")
        and before.get("use_regex", True)
        and all(token["special"] for token in parts["added_tokens"])
    )
    if not ours:
        raise PageError(
            f"a page cannot run {type(tokenizer).__name__} of kind {kind!r}: it knows characters, bytes and byte-level "
            "BPE without a normaliser (CharTokenizer, ByteTokenizer, BPETokenizer, HFTokenizer.train)"
        )
    special = {token["content"]: token["id"] for token in parts["added_tokens"]}
    names = {index: text for text, index in {**model["vocab"], **special}.items()}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    vocab = [None if names[i] in special else names[i] for i in range(tokenizer.vocab_size)]
    return {"kind": "bpe", "vocab": vocab, "merges": merges, "special_tokens": special}
