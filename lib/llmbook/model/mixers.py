r"""What may stand in a block in the place of attention, and what a memory must offer it.

A mixer moves information between positions. Attention keeps all keys and values and reads them again at every step; a
recurrent mixer folds what it has read into a state of fixed size, and latent attention keeps one short vector a
position. A configuration names the mixers of its layers as
values, ``mixers=(LinearMixer(), LinearMixer(), None)``, in turn from the first layer on; None is attention. The value
makes the layer, so a new kind is one class here in ``MIXERS`` and one module of its own.

The layer is called as ``layer(x, real=…, cache=…)``: the stream [B, T, C] as the block hands it in, False where it is
padding, and its share of a cache, of which it asks ``recall(name)`` for the tensor it kept last (None before the first
token) and ``keep(name, state)`` to replace it; the batch is the first axis of a state.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

if TYPE_CHECKING:
    from llmbook.model.config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class LinearMixer:
    """Causal linear attention in ``n_heads`` of ``d_head`` (``linear_attention.py``): a state instead of a cache."""

    kind: ClassVar[str] = "linear"

    def make(self, config: "TransformerConfig") -> nn.Module:
        """The layer. Raises nothing: every size of the configuration fits."""
        from llmbook.model.linear_attention import LinearAttention

        return LinearAttention(d_model=config.d_model, n_heads=config.n_heads, d_head=config.d_head, bias=config.bias)


@dataclass(frozen=True, kw_only=True)
class DeltaMixer:
    """The delta rule in ``n_heads`` of ``d_head`` (``delta_rule.py``): a state in which a key can be overwritten.

    ``replace=False`` is its control, a state that only adds. Raises ValueError for a ``replace`` that is no bool.
    """

    replace: bool = True
    kind: ClassVar[str] = "delta"

    def __post_init__(self):
        if not isinstance(self.replace, bool):
            raise ValueError(f"replace={self.replace!r} is neither True nor False")

    def make(self, config: "TransformerConfig") -> nn.Module:
        """The layer. Raises nothing: every size of the configuration fits."""
        from llmbook.model.delta_rule import DeltaRule

        sizes = dict(d_model=config.d_model, n_heads=config.n_heads, d_head=config.d_head)
        return DeltaRule(**sizes, replace=self.replace, bias=config.bias, norm_eps=config.norm_eps)


@dataclass(frozen=True, kw_only=True)
class LatentMixer:
    """Latent attention in ``n_heads`` of ``d_head`` (``latent_attention.py``): ``d_latent`` numbers kept a position.

    Raises ValueError for a ``d_latent`` below 1.
    """

    d_latent: int
    kind: ClassVar[str] = "latent"

    def __post_init__(self):
        if not isinstance(self.d_latent, int) or self.d_latent < 1:
            raise ValueError(f"d_latent={self.d_latent!r} must be a whole number of at least 1")

    def make(self, config: "TransformerConfig") -> nn.Module:
        """The layer. Raises nothing: every size of the configuration fits."""
        from llmbook.model.latent_attention import LatentAttention

        sizes = dict(d_model=config.d_model, n_heads=config.n_heads, d_head=config.d_head, d_latent=self.d_latent)
        return LatentAttention(**sizes, bias=config.bias, norm_eps=config.norm_eps)


Mixer = LinearMixer | DeltaMixer | LatentMixer
MIXERS: dict[str, type[Mixer]] = {spec.kind: spec for spec in (LinearMixer, DeltaMixer, LatentMixer)}


def to_dict(mixer: Mixer | None) -> dict[str, Any] | None:
    """A mixer as JSON has it; None for attention."""
    return None if mixer is None else {"kind": mixer.kind, **asdict(mixer)}


def from_dict(values: Any) -> Mixer | None:
    """The mixer that ``to_dict`` described. Raises ValueError for a kind, or an option of it, that is not known."""
    if values is None or isinstance(values, Mixer):
        return values
    if not isinstance(values, dict) or values.get("kind") not in MIXERS:
        raise ValueError(f"{values!r} describes none of: {', '.join(MIXERS)}; give {{'kind': …}} and its options")
    try:
        return MIXERS[values["kind"]](**{name: value for name, value in values.items() if name != "kind"})
    except TypeError as error:
        raise ValueError(f"{values!r}: {error}") from None
