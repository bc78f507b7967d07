r"""The layer a Transformer repeats, and the parts of it that are not attention.

    pre-norm (GPT-2, Llama)                      post-norm (the original, BERT)

    x ──┬── norm ── attention ──┐                x ──┬── attention ──┐
        └───────────────────────+── x                └───────────────+── norm ── x
    x ──┬── norm ── feed-forward ─┐              x ──┬── feed-forward ─┐
        └─────────────────────────+── x              └─────────────────+── norm ── x

    sandwich (Gemma 2 and 3)                     output (OLMo 2)

    x ──┬── norm ── attention ── norm ──┐        x ──┬── attention ── norm ──┐
        └───────────────────────────────+── x        └───────────────────────+── x
    and the same around the feed-forward net

Pre-norm leaves an untouched path from input to output, which is why deep stacks train without a warm-up
(https://arxiv.org/abs/2002.04745). So do the two below it, which also bound what each part adds
(https://arxiv.org/abs/2502.02732).
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model.cache import LayerCache
from llmbook.model.config import GATED, TransformerConfig
from llmbook.model.experts import ExpertFeedForward
from llmbook.model.linear import Linear
from llmbook.model.multi_head import MultiHeadAttention
from llmbook.model.norms import make_norm
from llmbook.model.short_conv import ShortConv


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by the tanh formula of its paper (https://arxiv.org/abs/1606.08415), as GPT-2 has it."""
    return F.gelu(x, approximate="tanh")


def relu2(x: Tensor) -> Tensor:
    """The square of ReLU (https://arxiv.org/abs/2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS = {  # named functions: a model with a lambda in it could not be pickled
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu2": relu2,
    "swiglu": F.silu,
    "geglu": F.gelu,
    "geglu_tanh": gelu_tanh,
}


class FeedForward(nn.Module):
    r"""What each position computes alone: widen, bend, narrow.

    $$\mathrm{FF}(x) = W_{down}\,\sigma(W_{up}\,x) \qquad
      \mathrm{gated}(x) = W_{down}\,(\sigma(W_{gate}\,x) \odot W_{up}\,x)$$

    The gated forms are those of https://arxiv.org/abs/2002.05202. Raises ValueError for an unknown ``activation``.
    """

    def __init__(self, *, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not one of {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.gate_proj = Linear(d_model, d_ff, bias=bias) if activation in GATED else None
        self.up_proj = Linear(d_model, d_ff, bias=bias)
        self.down_proj = Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "*P C"]) -> Float[Tensor, "*P C"]:
        if self.gate_proj is None:
            return self.down_proj(self.activation(self.up_proj(x)))
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention moves information between positions, the feed-forward net works on it; both add to the stream.

    With ``cross_attention`` a third part between the two reads another sequence, the encoder's, in the same way.
    With ``conv_width`` a short convolution stands in front of the first and the last. ``layer``, the block's place in
    the stack, says whether it has a window, whether it turns queries and keys, and whether another mixer of
    ``config.mixers`` stands in the place of attention.
    """

    def __init__(self, config: TransformerConfig, *, layer: int = 0, cross_attention: bool = False):
        super().__init__()
        self.norm_position = config.norm_position
        self.has_window, self.rotates = config.has_window(layer), layer not in config.nope_layers
        inner, outer = self.norm_position != "output", self.norm_position in ("sandwich", "output")
        self.attention_norm = make_norm(config) if inner else None
        self.attention_conv = make_conv(config, place=0)
        mixer = config.mixer(layer)
        self.attention = make_attention(config) if mixer is None else mixer.make(config)
        self.recurrent = mixer is not None
        self.attention_output_norm = make_norm(config) if outer else None
        self.cross_attention_norm = make_norm(config) if cross_attention and inner else None
        self.cross_attention = make_attention(config) if cross_attention else None
        self.cross_attention_output_norm = make_norm(config) if cross_attention and outer else None
        self.feed_forward_norm = make_norm(config) if inner else None
        self.feed_forward_conv = make_conv(config, place=1)
        self.feed_forward = make_feed_forward(config)
        self.feed_forward_output_norm = make_norm(config) if outer else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
        causal: bool = False,
        angles: tuple[Tensor, Tensor] | None = None,
        memory: Float[Tensor, "B M C"] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
        real: Bool[Tensor, "B T"] | None = None,
        cache: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T S"] | None, Float[Tensor, "B H T M"] | None]:
        """One step of the residual stream.

        ``mask``, ``bias``, ``causal`` and ``angles`` go to self-attention, as ``MultiHeadAttention.forward`` has them;
        ``memory`` and its mask are for cross-attention. ``real`` is False on padding, which short convolutions and
        other mixers must not read (attention has a mask for it).

        Returns the stream, the weights of self-attention and those of cross-attention, None where not asked for.

        Raises:
            ValueError: ``memory`` without cross-attention to read it, or the other way round; or ``need_weights`` of a
                mixer, which has none.
        """
        if (memory is None) != (self.cross_attention is None):
            raise ValueError(
                "a block with cross-attention needs memory [B, M, C] to read, and only such a block can take it"
            )
        entering = self._enter(self.attention_norm, x, self.attention_conv, real=real, cache=cache)
        angles = angles if self.rotates else None
        if self.recurrent:
            if need_weights:
                raise ValueError(
                    f"need_weights: {type(self.attention).__name__} has no weights; ask a model of attention"
                )
            read, weights = self.attention(entering, real=real, cache=cache), None
        else:
            read, weights = self.attention(
                entering, mask=mask, bias=bias, causal=causal, angles=angles, cache=cache, need_weights=need_weights
            )
        x = self._leave(self.attention_norm, x, read, self.attention_output_norm)
        cross_weights = None
        if self.cross_attention is not None:
            read, cross_weights = self.cross_attention(
                self._enter(self.cross_attention_norm, x),
                memory,
                mask=memory_mask,
                cache=cache,
                need_weights=need_weights,
            )
            x = self._leave(self.cross_attention_norm, x, read, self.cross_attention_output_norm)
        entering = self._enter(self.feed_forward_norm, x, self.feed_forward_conv, real=real, cache=cache)
        worked = self.feed_forward(entering)
        x = self._leave(self.feed_forward_norm, x, worked, self.feed_forward_output_norm)
        return x, weights, cross_weights

    def _enter(self, norm: nn.Module | None, x: Tensor, conv: ShortConv | None = None, **around) -> Tensor:
        """What a part reads: the stream, normalised unless in a post-norm block, each position with a little of those
        before."""
        x = x if norm is None or self.norm_position == "post" else norm(x)
        return x if conv is None else conv(x, **around)

    def _leave(self, norm: nn.Module | None, x: Tensor, part: Tensor, output_norm: nn.Module | None) -> Tensor:
        """The stream and a part, normalised where it has a norm of its own; their sum is, in a post-norm block."""
        x = x + self.dropout(part if output_norm is None else output_norm(part))
        return norm(x) if self.norm_position == "post" else x


def make_attention(config: TransformerConfig) -> MultiHeadAttention:
    """The attention layer a configuration describes."""
    return MultiHeadAttention(
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        d_head=config.d_head,
        bias=config.bias,
        qkv_bias=config.qkv_bias,
        dropout=config.dropout,
        scale=config.attention_scale,
        cap=config.attention_cap,
        qk_norm=config.qk_norm_width if config.qk_norm else None,
        zero_centred_norm=config.zero_centred_norm,
        norm_eps=config.norm_eps,
        backend=config.attention_backend,
    )


def make_feed_forward(config: TransformerConfig) -> FeedForward | ExpertFeedForward:
    """The feed-forward net a configuration describes, or its experts behind their router."""

    def one() -> FeedForward:
        return FeedForward(d_model=config.d_model, d_ff=config.d_ff, activation=config.feed_forward, bias=config.bias)

    if config.experts is None:
        return one()
    experts = [one() for _ in range(config.experts.n_experts)]
    return ExpertFeedForward(experts, d_model=config.d_model, settings=config.experts)


def make_conv(config: TransformerConfig, *, place: int) -> ShortConv | None:
    """The short convolution in front of a part of the block, if the configuration has one."""
    if config.conv_width is None:
        return None
    return ShortConv(d_model=config.d_model, width=config.conv_width, place=place)
