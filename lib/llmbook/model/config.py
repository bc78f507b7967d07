"""What a Transformer is made of, as one frozen value.

A configuration is data: it validates itself when it is made, never changes afterwards, and travels as JSON
beside the weights. The presets are the published architectures in our vocabulary of parts; every number can
be overridden, so ``TransformerConfig.gpt2(n_layers=4, d_model=128, n_heads=4)`` is a GPT-2 that fits a laptop.
Dropout is 0 in all of them but ``vaswani``: GPT-2, BERT and T5 were trained with 0.1 as well; give it if wanted.
"""

import json
from dataclasses import InitVar, asdict, dataclass, fields
from typing import Any, Literal, get_args

from llmbook.model import config_checks, mixers
from llmbook.model.experts import Experts
from llmbook.model.mixers import Mixer
from llmbook.model.rotary import RopeScaling

Positions = Literal["none", "sinusoidal", "learned", "t5", "alibi", "rope"]
Norm = Literal["layernorm", "rmsnorm"]
NormPosition = Literal["pre", "post", "sandwich", "output"]
QkNormWidth = Literal["head", "all"]
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
    itself and the ``sliding_window - 1`` positions before it (https://arxiv.org/abs/2310.06825); layers named in
    ``full_layers``, counted from 0, read everything all the same. Rotary positions turn the first ``rotary_fraction``
    of each head, in all layers but ``nope_layers`` (https://arxiv.org/abs/2501.18795); layers with a window take
    ``window_rope_theta`` as their base, unscaled, where it is given. ``attention_scale`` multiplies the scores,
    1/sqrt(d_head) unless given. ``attention_cap`` and ``logit_cap`` bound scores and logits by c · tanh(x / c)
    (https://arxiv.org/abs/2408.00118). ``scale_embeddings`` multiplies token vectors by sqrt(d_model),
    so that positions added to them weigh less; ``logit_scale`` multiplies what enters the output projection (``None``:
    1/sqrt(d_model)). ``layers.py`` draws the places of norms. ``qk_norm`` normalises queries and keys, each head by
    itself or, with ``qk_norm_width="all"``, all heads together. With ``zero_centred_norm`` an RMSNorm multiplies by
    1 + its weight. ``bias`` is for every linear layer and LayerNorm of a block; ``qkv_bias`` is for queries, keys and
    values, where it differs. ``mixers`` stand in the place of attention, in turn from the first layer on, None for
    attention (``mixers.py``; rotary positions, biases and windows are attention's); ``experts`` gives every
    feed-forward net several (``experts.py``). ``conv_width`` gives a causal model short convolutions over that many
    positions in front of attention and of the feed-forward net (``short_conv.py``; None for none). ``zero_init`` starts
    both projections into the residual stream at 0, so that every block begins as the identity.
    ``n_decoder_layers`` is the depth of the second stack of an encoder–decoder (None: as deep as the first).
    Raises ValueError for a size or choice that is impossible; the message names it and what would be possible.
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
    rotary_fraction: float = 1.0
    nope_layers: tuple[int, ...] = ()
    t5_buckets: int = 32
    t5_max_distance: int = 128
    sliding_window: int | None = None
    full_layers: tuple[int, ...] = ()
    window_rope_theta: float | None = None
    attention_scale: float | None = None
    attention_cap: float | None = None
    norm: Norm = "layernorm"
    norm_position: NormPosition = "pre"
    norm_eps: float = 1e-5
    zero_centred_norm: bool = False
    embedding_norm: bool = False
    qk_norm: bool = False
    qk_norm_width: QkNormWidth = "head"
    feed_forward: Activation = "gelu"
    mixers: tuple[Mixer | None, ...] = ()
    experts: Experts | None = None
    conv_width: int | None = None
    bias: bool = True
    qkv_bias: bool | None = None
    tie_embeddings: bool = True
    scale_embeddings: bool = False
    logit_scale: float | None = 1.0
    logit_cap: float | None = None
    n_segments: int = 0
    dropout: float = 0.0
    init_std: float = 0.02
    zero_init: bool = False
    attention_backend: Backend = "sdpa"
    _derived: InitVar[tuple[str, ...]] = ()  # which sizes were; not to be given (``dataclasses.replace`` hands it on)

    def __post_init__(self, _derived: tuple[str, ...]):
        for name in ("full_layers", "nope_layers"):
            if isinstance(getattr(self, name), list):  # JSON has lists alone
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.mixers, list):
            object.__setattr__(self, "mixers", tuple(map(mixers.from_dict, self.mixers)))
        for name in config_checks.SIZES:
            config_checks.at_least_one(self, name)
        for name, value in self._derivable().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
                _derived += (name,)
            elif name in _derived and getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)} was derived from the old sizes: use config.replace(...), which "
                    "derives it again, not dataclasses.replace"
                )
        object.__setattr__(self, "_derived", _derived)
        config_checks.check(self, _CHOICES)

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
        return {
            "n_kv_heads": self.n_heads,
            "d_head": d_head,
            "d_ff": d_ff,
            "logit_scale": self.d_model**-0.5,
            "qkv_bias": self.bias,
        }

    @property
    def d_rotary(self) -> int:
        """How many numbers of each head rotary positions turn."""
        return int(self.d_head * self.rotary_fraction)

    def has_window(self, layer: int) -> bool:
        """Whether this layer reads only the last ``sliding_window`` positions."""
        return self.sliding_window is not None and layer not in self.full_layers

    def mixer(self, layer: int) -> Mixer | None:
        """What stands in this layer in the place of attention; None for attention itself."""
        return self.mixers[layer % len(self.mixers)] if self.mixers else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"mixers": tuple(map(mixers.to_dict, self.mixers))}

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
        if isinstance(values.get("experts"), dict):
            values["experts"] = Experts(**values["experts"])
        values["mixers"] = list(values.get("mixers", ()))  # which makes values of them
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
    "qk_norm_width": get_args(QkNormWidth),
    "feed_forward": get_args(Activation),
    "attention_backend": get_args(Backend),
}
