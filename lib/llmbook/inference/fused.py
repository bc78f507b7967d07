r"""The same decoder in fewer operations: what a Llama-type model becomes for writing one token at a time.

At batch 1 the arithmetic of a token is small and each of the hundreds of operations a token goes through costs a few
microseconds to start, whatever its size. So the number of operations is what can be saved:

    q_proj, k_proj, v_proj            →  one product with the three matrices stacked
    gate_proj, up_proj                →  one product with the two matrices stacked
    rotate(q), rotate(k)              →  one rotation of both, as x · cos + swap(x) · (∓ sin)
    RMSNorm, some ten operations      →  LayerNorm, which is one, of x beside −x

The last needs an argument: (x, −x) has mean 0 and variance mean(x²), so $\mathrm{LayerNorm}(x, -x)$ with the gain
repeated is $(\mathrm{RMSNorm}(x), -\mathrm{RMSNorm}(x))$, ε included. Nothing is approximated: the outputs are those of
``DecoderLM`` up to rounding. ``quantise_model`` replaces the stacked layers as it does any others.
"""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model import DecoderLM, Output, Rotary, TransformerConfig, attend
from llmbook.model.cache import Cache, LayerCache
from llmbook.model.config import GATED
from llmbook.model.devices import require_device
from llmbook.model.embeddings import no_token
from llmbook.model.language_model import LanguageModel
from llmbook.model.layers import ACTIVATIONS
from llmbook.model.parts import plain_weight

NEEDED = dict(
    positions="rope", norm="rmsnorm", norm_position="pre", bias=False, qk_norm=False, qk_norm_width="head",
    embedding_norm=False, sliding_window=None, full_layers=(), window_rope_theta=None, conv_width=None,
    scale_embeddings=False, logit_scale=1.0, n_segments=0, n_decoder_layers=None, qkv_bias=False,
    zero_centred_norm=False, rotary_fraction=1.0, nope_layers=(), attention_cap=None, logit_cap=None,
    mixers=(), experts=None,
)  # fmt: skip


class FusedDecoder(LanguageModel):
    """Reads and writes like a ``DecoderLM`` of the same configuration, without padding, masks and training.

    ``fuse(model)`` makes one from a model. Built from a configuration it is what a saved state loads into.

    Raises:
        ValueError: the configuration has a part this road leaves out; the message names it.
    """

    token_table = "tokens"

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        _check(config)
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(FusedBlock(config) for _ in range(config.n_layers))
        self.final_gain = nn.Parameter(torch.ones(2 * config.d_model))
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.tokens.weight
        self.rotary = Rotary(d_head=config.d_head, base=config.rope_theta, scaling=config.rope_scaling)

    def forward(
        self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None, cache: Cache | None = None
    ) -> Output:
        """As ``DecoderLM.forward``; raises ValueError for an ``attention_mask``, which padded batches need, and for a
        number that is no token (on a CPU)."""
        if attention_mask is not None:
            raise ValueError("a FusedDecoder reads texts without padding: give padded batches to the DecoderLM")
        (batch, q_len), n_past = input_ids.shape, 0 if cache is None else cache.length
        try:
            require_device(self.tokens.weight, input_ids=input_ids)
            x = self.tokens(input_ids).flatten(0, 1)  # [B·T, C]
        except IndexError:
            raise no_token(input_ids, self.config.vocab_size) from None
        cos, sin = self.rotary(torch.arange(n_past, n_past + q_len, device=x.device)[None])  # [1, 1, T, D / 2]
        cos = torch.cat((cos, cos), dim=-1).to(x.dtype)  # [1, 1, T, D]
        sin = torch.cat((-sin, sin), dim=-1).to(x.dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, batch, cos, sin, None if cache is None else cache.layer(i))
        if cache is not None:
            cache.advance(q_len)
        x = wide_norm(x, self.final_gain, self.config.norm_eps).unflatten(0, (batch, q_len))
        return Output(logits=self.lm_head(x), last_hidden_state=x)


class FusedBlock(nn.Module):
    """A pre-norm block with stacked projections, for self-attention."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.d_head = config.n_heads, config.n_kv_heads, config.d_head
        self.scale, self.backend = config.attention_scale, config.attention_backend
        self.activation, self.eps = ACTIVATIONS[config.feed_forward], config.norm_eps
        n_rows = (self.n_heads + 2 * self.n_kv_heads) * self.d_head
        self.attention_gain = nn.Parameter(torch.ones(2 * config.d_model))
        self.qkv_proj = nn.Linear(config.d_model, n_rows, bias=False)
        self.o_proj = nn.Linear(self.n_heads * self.d_head, config.d_model, bias=False)
        self.feed_forward_gain = nn.Parameter(torch.ones(2 * config.d_model))
        self.gate_up_proj = nn.Linear(config.d_model, 2 * config.d_ff, bias=False)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "BT C"],
        batch: int,
        cos: Float[Tensor, "1 1 T D"],
        sin: Float[Tensor, "1 1 T D"],
        cache: LayerCache | None,
    ) -> Float[Tensor, "BT C"]:
        heads, kv_heads, width = self.n_heads, self.n_kv_heads, self.d_head
        stacked = self.qkv_proj(wide_norm(x, self.attention_gain, self.eps))  # [B·T, (H + 2 Hk)·D]
        stacked = stacked.view(batch, -1, heads + 2 * kv_heads, width).transpose(1, 2)  # [B, H + 2 Hk, T, D]
        qk, v = stacked.narrow(1, 0, heads + kv_heads), stacked.narrow(1, heads + kv_heads, kv_heads)
        qk = torch.addcmul(qk * cos, qk.roll(width // 2, -1), sin)  # the rotation, of queries and keys at once
        q, k = qk.narrow(1, 0, heads), qk.narrow(1, heads, kv_heads)  # [B, H, T, D], [B, Hk, T, D]
        if cache is not None:
            k, v = cache.append(k, v)  # [B, Hk, S, D]
        mixed, _ = attend(q, k, v, causal=True, scale=self.scale, backend=self.backend)
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(-1, heads * width))
        gate, up = self.gate_up_proj(wide_norm(x, self.feed_forward_gain, self.eps)).chunk(2, -1)
        return x + self.down_proj(self.activation(gate) * up)


def wide_norm(x: Float[Tensor, "*P C"], gain: Float[Tensor, "C2"], eps: float) -> Float[Tensor, "*P C"]:
    """RMSNorm as one LayerNorm of twice the width (see the top of this file); ``gain`` [2 C] holds each twice."""
    return torch.layer_norm(torch.cat((x, -x), -1), gain.shape, gain, None, eps).narrow(-1, 0, x.shape[-1])


@torch.no_grad()
def fuse(model: DecoderLM) -> FusedDecoder:
    """The same model in fewer operations, for decoding.

    Token table and output projection are shared with ``model``, the rest is copied.

    Raises:
        ValueError: the model is no ``DecoderLM``, has a part this road leaves out, or has been adapted or quantised;
            the message names it.
    """
    if not isinstance(model, DecoderLM):
        raise ValueError(f"{type(model).__name__} cannot be fused: give a DecoderLM")
    _check(model.config)
    weight = model.backbone.embeddings.tokens.weight
    with torch.device("meta"):  # reserve nothing: every weight is assigned below
        fused = FusedDecoder(model.config)
    fused.rotary = copy.deepcopy(model.backbone.rotary)
    fused.tokens.weight, fused.lm_head.weight = weight, plain_weight(model.lm_head)
    fused.final_gain = _twice(model.backbone.final_norm)
    for new, old in zip(fused.blocks, model.backbone.blocks, strict=True):
        attention, feed_forward = old.attention, old.feed_forward
        new.attention_gain = _twice(old.attention_norm)
        new.feed_forward_gain = _twice(old.feed_forward_norm)
        new.qkv_proj.weight = _stack(attention.q_proj, attention.k_proj, attention.v_proj)
        new.gate_up_proj.weight = _stack(feed_forward.gate_proj, feed_forward.up_proj)
        new.o_proj.weight, new.down_proj.weight = _stack(attention.o_proj), _stack(feed_forward.down_proj)
    return fused.eval()


def _stack(*layers: nn.Module) -> nn.Parameter:
    return nn.Parameter(torch.cat([plain_weight(layer) for layer in layers]))


def _twice(norm: nn.RMSNorm) -> nn.Parameter:
    return nn.Parameter(torch.cat((norm.weight, norm.weight)))


def _check(config: TransformerConfig) -> None:
    for name, value in NEEDED.items():
        if getattr(config, name) != value:
            raise ValueError(f"{name}={getattr(config, name)!r}: fused decoding is for Llama's parts, {name}={value!r}")
    if config.feed_forward not in GATED:
        raise ValueError(
            f"feed_forward={config.feed_forward!r}: fused decoding stacks a gate, one of {', '.join(GATED)}"
        )
