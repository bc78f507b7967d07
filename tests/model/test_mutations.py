"""Classic mistakes, made on purpose: for each, a named test of this folder must notice.

A suite that stays green when the rotation is left out proves nothing about rotation. Each case patches one mistake
into the library, runs the test that is meant to catch it, and demands that the test fails.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from llmbook.interop import huggingface
from llmbook.model import (
    TransformerConfig,
    attention,
    backbone,
    cache,
    conv_state,
    encoder_decoder,
    heads,
    layers,
    linear,
    masks,
    multi_head,
    norms,
    position_bias,
    position_embeddings,
    rotary,
    short_conv,
    sliding_cache,
)
from tests.interop import test_huggingface
from tests.model import (
    test_attention,
    test_caches,
    test_encoder_decoder,
    test_heads,
    test_linear,
    test_positions,
    test_short_conv,
    test_transformer,
)
from tests.mutations import must_be_noticed

ROPE, LEARNED, ALIBI = (
    next(p for p in test_transformer.PARTS if p["positions"] == n) for n in ("rope", "learned", "alibi")
)
CONV = next(p for p in test_transformer.PARTS if "conv_width" in p)

real = dict(
    rotate=rotary.rotate,
    attend=attention.attend,
    positions=backbone.Backbone._positions,
    block=layers.Block.__init__,
    make_rotary=backbone.make_rotary,
    heads=multi_head.MultiHeadAttention._heads,
    forward=multi_head.MultiHeadAttention.forward,
    backbone=backbone.Backbone.forward,
    backward=linear.OneDnnLinear.backward,
)
convolve = short_conv.ShortConv.forward
look_back = conv_state.ConvState.window


def kernel_causal(q, k, v, *, scale, **ignored):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def plain_softmax(q, k, v, *, allowed, fully_masked, scale, **ignored):
    allowed = allowed & ~fully_masked
    weights = (q @ k.transpose(-2, -1) * scale).masked_fill(~allowed, -math.inf).softmax(-1)
    return weights @ v, weights


def taps_reversed(conv, x):
    turned = short_conv.ShortConv(d_model=x.shape[-1], width=conv.width)
    turned.weight = torch.nn.Parameter(conv.weight.detach().flip(0))
    return convolve(turned, x)


def not_next_to_the_new(inputs, index, place, x):
    window = torch.cat([inputs.before[index, place], x], dim=1)
    inputs.after[index, place] = window[:, x.shape[1] :]
    return window


def counted_at_once(inputs, index, place, x):
    window = look_back(inputs, index, place, x)
    inputs.before[index, place] = inputs.after[index, place]
    return window


def future_by_one(q_len, k_len=None, *, device=None):
    k_len = q_len if k_len is None else k_len
    return torch.ones(q_len, k_len, dtype=torch.bool).tril(k_len - q_len + 1)


def counts_padding(backbone, input_ids, attention_mask, n_past):
    return real["positions"](backbone, input_ids, None, n_past)


def forgets_the_cache(backbone, input_ids, attention_mask, n_past):
    batch, q_len = input_ids.shape
    return torch.arange(q_len).expand(batch, q_len)


@staticmethod
def forgets_the_bias(ctx, dy):
    dx, dweight, _ = real["backward"](ctx, dy)
    return dx, dweight, torch.zeros(dy.shape[-1])


def always_pre_norm(block, config, **keywords):
    real["block"](block, config, **keywords)
    block.norm_position = "pre"


def always_post_norm(block, config, **keywords):
    real["block"](block, config, **keywords)
    block.norm_position = "post"


def always_rotates(block, config, **keywords):
    real["block"](block, config, **keywords)
    block.rotates = True


def parity(family: str) -> Callable[[], None]:
    return lambda: test_huggingface.test_same_outputs_and_gradients(family)


def square_not_transposed(family):
    """Of the four kinds of matrices the one whose shape does not give the mistake away."""
    return replace(
        family,
        layer=tuple(replace(e, transposed=e.transposed and "attn.c_proj" not in e.theirs) for e in family.layer),
    )


MUTATIONS: dict[str, tuple[object, str, object, Callable[[], None]]] = {
    "rotation left out": (
        multi_head, "rotate", lambda x, cos, sin: x,
        lambda: test_huggingface.test_same_outputs_and_gradients("llama"),
    ),
    "rotation the other way": (
        multi_head, "rotate", lambda x, cos, sin: real["rotate"](x, cos, -sin),
        lambda: test_huggingface.test_same_outputs_and_gradients("llama"),
    ),
    "rotation of one of query and key reversed": (
        test_positions, "rotate", lambda x, cos, sin: real["rotate"](x, cos, sin * x.flatten()[0].sign()),
        test_positions.test_scores_depend_on_the_distance_alone,
    ),
    "1/sqrt(D) dropped": (
        multi_head, "attend", lambda *a, **k: real["attend"](*a, **{**k, "scale": 1.0}),
        lambda: test_attention.test_multi_head_attention_equals_torch(cross=False),
    ),
    "key heads tiled instead of repeated": (
        torch.Tensor, "repeat_interleave", lambda x, n, dim: x.repeat(1, n, 1, 1),
        test_attention.test_grouped_queries_share_neighbouring_heads,
    ),
    "causal mask shifted by one": (
        attention, "causal_mask", future_by_one,
        lambda: test_attention.test_eager_equals_sdpa(causal=True, masked=False, biased=False, q_len=5, kv_heads=4),
    ),
    "the kernel's causal rule with a cache": (
        attention, "sdpa_attention", kernel_causal,
        lambda: test_attention.test_causal_queries_are_the_last_of_the_keys("sdpa"),
    ),
    "position offset of the cache forgotten, rotary": (
        backbone.Backbone, "_positions", forgets_the_cache,
        lambda: test_transformer.test_cached_chunks_equal_one_pass(ROPE),
    ),
    "position offset of the cache forgotten, learned": (
        backbone.Backbone, "_positions", forgets_the_cache,
        lambda: test_transformer.test_cached_chunks_equal_one_pass(LEARNED),
    ),
    "padding counted as a position": (
        backbone.Backbone, "_positions", counts_padding,
        lambda: test_transformer.test_left_padding_changes_nothing(LEARNED),
    ),
    "padding read": (
        backbone, "padding_mask", lambda mask: torch.ones_like(mask, dtype=torch.bool)[:, None, None],
        lambda: test_transformer.test_left_padding_changes_nothing(ROPE),
    ),
    "bias without the cache's offset": (
        position_bias, "relative_positions",
        lambda q, k, device=None: torch.arange(k)[None] - torch.arange(q)[:, None],
        lambda: test_transformer.test_cached_chunks_equal_one_pass(ALIBI),
    ),
    "ALiBi's slopes for the wrong number of heads": (
        test_positions, "alibi_slopes", lambda n: torch.tensor([2 ** (-8 * (i + 1) / n) for i in range(n)]),
        lambda: test_positions.test_alibi_equals_transformers(12),
    ),
    "sine and cosine exchanged": (
        position_embeddings.torch, "stack", lambda ab, dim: torch.cat([x[..., None] for x in ab[::-1]], -1),
        test_positions.test_sinusoids_by_the_formula,
    ),
    "pre-norm where post-norm was asked": (
        layers.Block, "__init__", always_pre_norm,
        lambda: test_huggingface.test_same_outputs_and_gradients("bert"),
    ),
    "norms behind the parts taken for post-norm": (layers.Block, "__init__", always_post_norm, parity("gemma2")),
    "scores not bounded": (attention, "capped", lambda x, cap: x, parity("gemma2")),
    "logits not bounded": (backbone, "capped", lambda x, cap: x, parity("gemma2")),
    "a window in every layer": (
        TransformerConfig, "has_window", lambda self, layer: self.sliding_window is not None, parity("gemma2"),
    ),
    "one base for both kinds of layers": (
        backbone, "make_rotary", lambda config: (real["make_rotary"](config)[0], None), parity("gemma3_text"),
    ),
    "a gain without its 1": (norms.RMSNorm, "gain", property(lambda self: self.weight), parity("gemma")),
    "whole heads turned where a part was asked": (
        TransformerConfig, "d_rotary", property(lambda self: self.d_head), parity("phi3"),
    ),
    "positions in every layer": (layers.Block, "__init__", always_rotates, parity("smollm3")),
    "queries and keys not normalised": (
        multi_head.MultiHeadAttention, "_heads", lambda self, x, n, norm=None: real["heads"](self, x, n),
        parity("olmo2"),
    ),
    "exact GELU where the tanh form was asked": (
        layers, "ACTIVATIONS", {**layers.ACTIVATIONS, "gelu_tanh": F.gelu},
        lambda: test_huggingface.test_same_outputs_and_gradients("gpt2"),
    ),
    "GPT-2's square matrix not transposed": (
        huggingface, "FAMILIES", {"gpt2": square_not_transposed(huggingface.FAMILIES["gpt2"])},
        lambda: test_huggingface.test_same_outputs_and_gradients("gpt2"),
    ),
    "window one too wide": (
        backbone, "sliding_window_mask",
        lambda q, k, *, window, device=None: masks.sliding_window_mask(q, k, window=window + 1, device=device),
        lambda: test_transformer.test_a_window_hides_what_is_far("rope"),
    ),
    "cross-attention reads its own stream": (
        multi_head.MultiHeadAttention, "forward",
        lambda self, x, context=None, **k: real["forward"](self, x, None if context is None else x, **k),
        lambda: test_encoder_decoder.test_the_decoder_sees_all_input_and_no_future("vaswani"),
    ),
    "padding of the input read by the decoder": (
        encoder_decoder.Backbone, "forward",
        lambda self, *a, **k: real["backbone"](self, *a, **{**k, "memory_mask": None}),
        test_encoder_decoder.test_padded_input_changes_nothing,
    ),
    "gradient of oneDNN's bias forgotten": (
        linear.OneDnnLinear, "backward", forgets_the_bias,
        lambda: test_linear.test_onednn_equals_torch(True),
    ),
    "padding pooled": (
        test_heads, "pool", lambda hidden, mask=None, pooling="mean": heads.pool(hidden, pooling=pooling),
        lambda: test_heads.test_pooling_counts_real_tokens_only("mean", [4.0, 4.5]),
    ),
    "taps of a short convolution in the wrong order": (
        short_conv.ShortConv, "forward", taps_reversed,
        lambda: test_short_conv.test_it_is_torchs_depthwise_convolution_beside_a_free_path(4),
    ),
    "a short convolution reads padding": (
        short_conv.ShortConv, "forward", lambda conv, x, *, real, cache: convolve(conv, x, cache=cache),
        lambda: test_transformer.test_left_padding_changes_nothing(CONV),
    ),
    "a short convolution without the cache's past": (
        short_conv.ShortConv, "forward", lambda conv, x, *, real, cache: convolve(conv, x, real=real),
        lambda: test_transformer.test_cached_chunks_equal_one_pass(CONV),
    ),
    "a crop of the cache that forgets what convolutions read": (
        cache.KVCache, "crop", lambda self, n: (setattr(self, "length", n), [x.zero_() for x, _ in self.inputs]),
        test_short_conv.test_a_cache_can_go_back,
    ),
    "a sliding cache that forgets what convolutions read": (
        sliding_cache.SlidingLayerCache, "look_back", lambda share, place, x: F.pad(x, (0, 0, 3, 0)),
        lambda: test_short_conv.test_a_sliding_cache_keeps_the_last_inputs(4),
    ),
    "what convolutions look back on left in front of the padding": (
        conv_state.ConvState, "window", not_next_to_the_new,
        lambda: test_caches.test_rows_join_and_leave(dict(positions="rope", conv_width=2)),
    ),
    "paged rows that forget what convolutions read": (
        conv_state.ConvState, "advance", lambda inputs: None,
        lambda: test_caches.test_rows_join_and_leave(dict(positions="rope", conv_width=2)),
    ),
    "what convolutions read counted before the pass has ended": (
        conv_state.ConvState, "window", counted_at_once,
        test_short_conv.test_a_pass_that_breaks_off_can_be_made_again,
    ),
    "a fully_masked query gives NaN": (
        attention, "eager_attention", plain_softmax,
        lambda: test_attention.test_a_row_that_may_read_nothing_is_zero("eager"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    """A test that would pass whatever the library computes."""
    must_be_noticed(*MUTATIONS[name], monkeypatch)
