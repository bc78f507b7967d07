"""How a ``config.json`` says that rotary positions are stretched, in its older and newer spellings, both ways.

Before transformers 5 the base stood apart and the rest in ``rope_scaling``, whose ``rope_type`` was once ``type``;
since then everything is in ``rope_parameters``. A kind or a number we do not compute is refused: left out in silence,
it would give other logits.
"""

from typing import Any

from llmbook.model import RopeScaling, TransformerConfig

_PLACES = ("rope_parameters", "rope_scaling")
_ALWAYS = {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "partial_rotary_factor"}
# What each kind may say beside: a name, and what it must be (None: anything, it is read).
_EXTRA: dict[str, dict[str, Any]] = {
    "linear": {},
    "llama3": {"low_freq_factor": None, "high_freq_factor": None},
    "yarn": {"beta_fast": 32, "beta_slow": 1, "truncate": True},
}


def rope_settings(values: dict[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling`` of our configuration, and ``rotary_fraction`` for kinds that turn heads in
    part. Raises ValueError for a kind of stretching we do not compute."""
    said = [values[place] for place in _PLACES if values.get(place)]
    if not all(isinstance(part, dict) for part in said):
        raise ValueError(f"rope_scaling={said!r} is no object with a rope_type")
    rope = {name: value for part in reversed(said) for name, value in part.items() if value is not None}
    theta = values.get("rope_theta") or rope.get("rope_theta", 10_000.0)
    kinds = {part[name] for part in said for name in ("rope_type", "type") if part.get(name)} or {"default"}
    if len(kinds) > 1:
        raise ValueError(
            f"rotary positions are said to be {' and '.join(sorted(map(repr, kinds)))}: one of them is wrong"
        )
    (kind,) = kinds
    fraction = rope.get("partial_rotary_factor", values.get("partial_rotary_factor") or 1.0)
    if fraction != 1.0 and not partial:
        raise ValueError(f"partial_rotary_factor={fraction!r}: models of this kind turn whole heads")
    settings = {"rope_theta": theta, "rope_scaling": None} | ({"rotary_fraction": fraction} if partial else {})
    if kind == "default":
        return settings
    if kind not in _EXTRA:
        raise ValueError(f"rotary positions of kind {kind!r} are not read, only {', '.join(map(repr, _EXTRA))}")
    for name in sorted(rope.keys() - _ALWAYS):
        wanted = _EXTRA[kind].get(name, "left out")
        if wanted is not None and rope[name] != wanted:
            raise ValueError(
                f"rotary positions of kind {kind!r} with {name}={rope[name]!r} are not read, only {wanted}"
            )
    return {**settings, "rope_scaling": _scaling(kind, rope, values)}


def _scaling(kind: str, rope: dict[str, Any], values: dict[str, Any]) -> RopeScaling:
    factors = {name: rope[name] for name in ("low_freq_factor", "high_freq_factor") if kind == "llama3"}
    length = rope.get("original_max_position_embeddings") or values.get("original_max_position_embeddings")
    return RopeScaling(
        kind=kind,
        factor=rope["factor"],
        original_max_seq_len=length or values["max_position_embeddings"],
        **factors,
    )


def their_rope(config: TransformerConfig) -> dict[str, Any]:
    """Both spellings of our settings; a kind they have no name for is left out, for the caller to notice."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind in _EXTRA:
        rope |= {
            "rope_type": scaling.kind,
            "factor": scaling.factor,
            "original_max_position_embeddings": scaling.original_max_seq_len,
        }
        if scaling.kind == "llama3":
            rope |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    return {"rope_theta": config.rope_theta, "rope_parameters": rope}
