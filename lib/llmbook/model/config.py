"""What a Transformer is made of, as one frozen value.

A configuration is data: it validates itself when it is made, never changes afterwards, and travels as JSON
beside the weights. The presets are the published architectures in our vocabulary of parts; every number can
be overridden, so ``TransformerConfig.gpt2(n_layers=4, d_model=128, n_heads=4)`` is a GPT-2 that fits a laptop.
Dropout is 0 in all of them but ``vaswani``: GPT-2, BERT and T5 were trained with 0.1 as well; give it if wanted.
"""

import json
import math
from dataclasses import InitVar, asdict, dataclass, fields
from typing import Any, Literal, get_args

from llmbook.model.rotary import RopeScaling

Positions = Literal["none", "sinusoidal", "learned", "t5", "alibi", "rope"]
Norm = Literal["layernorm", "rmsnorm"]
NormPosition = Literal["pre", "post"]
Activation = Literal["relu", "gelu", "gelu_tanh", "relu2", "swiglu", "geglu", "geglu_tanh"]
Backend = Literal["sdpa", "eager"]

GATED = ("swiglu", "geglu", "geglu_tanh")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and choices of one Transformer.

    Sizes left at ``None`` follow from the others: ``n_kv_heads = n_heads`` (multi-head attention; fewer is grouped
    queries, 1 is multi-query), ``d_head = d_model / n_heads``, ``d_ff = 4 d_model`` (gated: 8/3 of it, rounded up to
    a multiple of 32, which keeps the parameter count). ``max_seq_len`` is a hard limit for learned positions and
    the length the model is meant for under every other scheme. ``sliding_window`` limits how far a causal model reads:
    itself and the ``sliding_window - 1`` positions before it (https://arxiv.org/abs/2310.06825). ``attention_scale``
    multiplies the scores, 1/sqrt(d_head) unless given. ``scale_embeddings`` multiplies token vectors by sqrt(d_model),
    so that positions added to them weigh less; ``logit_scale`` multiplies what enters the output projection (``None``:
    1/sqrt(d_model)).
    ``conv_width`` gives a causal model short convolutions over that many positions in front of attention and of the
    feed-forward net (``short_conv.py``; None for none).
    ``zero_init`` starts both projections into the residual stream at 0, so that every block begins as the identity.
    ``n_decoder_layers`` is the depth of the second stack of an encoder–decoder (None: as deep as the first).

    Raises:
        ValueError: a size or choice is impossible; the message names it and what would be possible.
    """

    vocab_size: int
    max_seq_len: int = 1024
    d_model: int = 768
    n_layers: int = 12
    n_decoder_layers: int | None = None
    n_heads: int = 12
    n_kv_heads: int | None = None
    d_head: int | None = None
    d_ff: int | None = None
    positions: Positions = "learned"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    t5_buckets: int = 32
    t5_max_distance: int = 128
    sliding_window: int | None = None
    attention_scale: float | None = None
    norm: Norm = "layernorm"
    norm_position: NormPosition = "pre"
    norm_eps: float = 1e-5
    embedding_norm: bool = False
    qk_norm: bool = False
    feed_forward: Activation = "gelu"
    conv_width: int | None = None
    bias: bool = True
    tie_embeddings: bool = True
    scale_embeddings: bool = False
    logit_scale: float | None = 1.0
    n_segments: int = 0
    dropout: float = 0.0
    init_std: float = 0.02
    zero_init: bool = False
    attention_backend: Backend = "sdpa"
    _derived: InitVar[tuple[str, ...]] = ()  # which sizes were; not to be given (``dataclasses.replace`` hands it on)

    def __post_init__(self, _derived: tuple[str, ...]):
        for name in ("vocab_size", "max_seq_len", "d_model", "n_layers", "n_heads", "t5_buckets", "t5_max_distance"):
            _at_least_one(self, name)
        for name, value in self._derivable().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
                _derived += (name,)
            elif name in _derived and getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)} was derived from the old sizes: use config.replace(...), which "
                    "derives it again, not dataclasses.replace"
                )
        if self.d_head is None:
            raise ValueError(
                f"d_model={self.d_model} is not divisible by n_heads={self.n_heads}; change one or give d_head"
            )
        object.__setattr__(self, "_derived", _derived)
        for name in ("n_kv_heads", "d_head", "d_ff"):
            _at_least_one(self, name)
        for name in ("n_decoder_layers", "sliding_window", "conv_width"):
            if getattr(self, name) is not None:
                _at_least_one(self, name)
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}")
        for name, choices in _CHOICES.items():
            _one_of(name, getattr(self, name), choices)
        if self.positions == "rope" and self.d_head % 2:
            raise ValueError(f"rotary positions turn pairs of numbers: d_head={self.d_head} must be even")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions come in pairs: d_model={self.d_model} must be even")
        if not isinstance(self.rope_scaling, RopeScaling | None):
            raise ValueError(f"rope_scaling={self.rope_scaling!r}: give a RopeScaling(kind=…, factor=…, …)")
        if self.rope_scaling is not None and self.positions != "rope":
            raise ValueError(f"rope_scaling needs positions='rope', not {self.positions!r}")
        if self.positions == "t5" and not 4 <= self.t5_buckets <= self.t5_max_distance:
            raise ValueError(
                f"t5_buckets={self.t5_buckets} must lie between 4 and t5_max_distance={self.t5_max_distance}: half of "
                "them hold one distance each"
            )
        for name in ("rope_theta", "norm_eps", "init_std", "logit_scale", "attention_scale"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and 0 < value < math.inf
            if not is_number and not (value is None and name == "attention_scale"):
                raise ValueError(f"{name}={value!r} must be positive and finite")
        if not isinstance(self.n_segments, int) or self.n_segments < 0:
            raise ValueError(f"n_segments={self.n_segments!r} must be 0, for none, or a whole number above")
        if not (isinstance(self.dropout, int | float) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout={self.dropout!r} is not a probability below 1")

    @classmethod
    def vaswani(cls, **overrides: Any) -> "TransformerConfig":
        """The original encoder–decoder, base size (https://arxiv.org/abs/1706.03762): post-norm, ReLU, sinusoids."""
        preset = dict(
            vocab_size=37_000, max_seq_len=512, d_model=512, n_layers=6, n_heads=8, positions="sinusoidal",
            norm_position="post", feed_forward="relu", scale_embeddings=True, dropout=0.1,
        )  # fmt: skip
        return cls(**{**preset, **overrides})

    @classmethod
    def gpt2(cls, **overrides: Any) -> "TransformerConfig":
        """GPT-2 small (https://openai.com/index/better-language-models/): pre-norm, GELU, learned positions."""
        preset = dict(vocab_size=50_257, max_seq_len=1024, feed_forward="gelu_tanh")
        return cls(**{**preset, **overrides})

    @classmethod
    def llama(cls, **overrides: Any) -> "TransformerConfig":
        """Llama's parts (https://arxiv.org/abs/2302.13971) at SmolLM2-135M's size: RMSNorm, RoPE, SwiGLU, no biases."""
        preset = dict(
            vocab_size=49_152, max_seq_len=8192, d_model=576, n_layers=30, n_heads=9, n_kv_heads=3, d_ff=1536,
            positions="rope", rope_theta=100_000.0, norm="rmsnorm", feed_forward="swiglu", bias=False,
        )  # fmt: skip
        if {"d_model", "n_heads"} & overrides.keys():  # another size: let the dependent widths follow
            preset |= dict(n_kv_heads=None, d_ff=None)
        return cls(**{**preset, **overrides})

    @classmethod
    def bert(cls, **overrides: Any) -> "TransformerConfig":
        """BERT base (https://arxiv.org/abs/1810.04805): post-norm, GELU, learned positions, two segments."""
        preset = dict(
            vocab_size=30_522, max_seq_len=512, norm_position="post", norm_eps=1e-12, embedding_norm=True,
            n_segments=2,
        )  # fmt: skip
        return cls(**{**preset, **overrides})

    @classmethod
    def t5(cls, **overrides: Any) -> "TransformerConfig":
        """T5 small (https://arxiv.org/abs/1910.10683): an encoder–decoder with relative biases and unscaled scores.

        RMSNorm, ReLU, no biases; the shared token table is also the output projection, behind a factor 1/sqrt(C).
        """
        preset = dict(
            vocab_size=32_128, max_seq_len=512, d_model=512, n_layers=6, n_heads=8, d_ff=2048, positions="t5",
            norm="rmsnorm", norm_eps=1e-6, feed_forward="relu", bias=False, attention_scale=1.0,
        )  # fmt: skip
        values = {**preset, **overrides}
        if {"d_model", "n_heads"} & overrides.keys() and "d_ff" not in overrides:
            values["d_ff"] = None
        if values.get("tie_embeddings", True):
            values.setdefault("logit_scale", None)  # follows d_model, through replace as well
        return cls(**values)

    @classmethod
    def modern(cls, **overrides: Any) -> "TransformerConfig":
        """A decoder of GPT-2's shape with newer parts: RoPE, RMSNorm, ReLU², normalised queries and keys, short
        convolutions, no biases, every block the identity at the start. Most of what it gains over GPT-2 is its
        training (benchmarks)."""
        preset = dict(
            vocab_size=50_257, max_seq_len=1024, positions="rope", norm="rmsnorm", feed_forward="relu2", bias=False,
            qk_norm=True, conv_width=4, zero_init=True,
        )  # fmt: skip
        return cls(**{**preset, **overrides})

    def replace(self, **changes: Any) -> "TransformerConfig":
        """A copy with some values changed; sizes that were derived, not given, are derived again."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{**values, **dict.fromkeys(self._derived), **changes})

    def _derivable(self) -> dict[str, float | None]:
        """What the sizes that may be left at None are then (a ``d_head`` that cannot be whole: None)."""
        d_ff = -(-8 * self.d_model // (3 * 32)) * 32 if self.feed_forward in GATED else 4 * self.d_model
        d_head = None if self.d_model % self.n_heads else self.d_model // self.n_heads
        return {"n_kv_heads": self.n_heads, "d_head": d_head, "d_ff": d_ff, "logit_scale": self.d_model**-0.5}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TransformerConfig":
        """The configuration ``to_dict`` described. A size it holds as it would be derived counts as derived.

        Raises:
            ValueError: an entry is unknown (a foreign or newer file); its name is given.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"not fields of {cls.__name__}: {sorted(unknown)}; is this another model's config?")
        values = dict(values)
        if isinstance(values.get("rope_scaling"), dict):
            values["rope_scaling"] = RopeScaling(**values["rope_scaling"])
        config = cls(**values)
        derived = [name for name, value in config._derivable().items() if getattr(config, name) == value]
        return config.replace(**dict.fromkeys(derived))

    @classmethod
    def from_json(cls, text: str) -> "TransformerConfig":
        return cls.from_dict(json.loads(text))


_CHOICES = {
    "positions": get_args(Positions),
    "norm": get_args(Norm),
    "norm_position": get_args(NormPosition),
    "feed_forward": get_args(Activation),
    "attention_backend": get_args(Backend),
}


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}")


def _at_least_one(config: Any, name: str) -> None:
    value = getattr(config, name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
