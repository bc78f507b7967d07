"""Short convolutions: the formula, where they stand, and what must not be combined with them."""

import pytest
import torch
from torch import nn

from llmbook.model import (
    DecoderLM,
    Encoder,
    EncoderDecoderLM,
    KVCache,
    PagedCache,
    PagePool,
    SlidingKVCache,
    TransformerConfig,
    prefix_mask,
)
from llmbook.model.short_conv import ShortConv
from tests.model.helpers import random_ids, shake, small_config, small_lm


@pytest.mark.parametrize("width", [1, 2, 4, 9])
def test_it_is_torchs_depthwise_convolution_beside_a_free_path(width):
    """Taps in the wrong order, a window shifted by one, channels mixed: outputs and both gradients as Conv1d's."""
    conv = shake(ShortConv(d_model=6, width=width))
    x = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    theirs = nn.Conv1d(6, 6, width, groups=6, padding=width - 1, bias=False)
    theirs.weight = nn.Parameter(conv.weight.detach().T[:, None].clone())
    y, wanted = conv(x), x + theirs(x.mT)[..., :7].mT
    torch.testing.assert_close(y, wanted, atol=1e-6, rtol=1e-6)
    weights = torch.randn_like(y)
    ours = torch.autograd.grad((y * weights).sum(), [x, conv.weight])
    expected = torch.autograd.grad((wanted * weights).sum(), [x, theirs.weight])
    torch.testing.assert_close(ours[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[1], expected[1][:, 0].T, atol=1e-5, rtol=1e-5)


def test_a_model_begins_as_the_one_without():
    """Taps that do not start at 0, or a path around the convolution that is missing."""
    torch.manual_seed(0)
    model = DecoderLM(small_config(conv_width=4))
    plain = DecoderLM(small_config())
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert {name.split(".")[-2] for name in missing.unexpected_keys} == {"attention_conv", "feed_forward_conv"}
    ids = random_ids(2, 9)
    torch.testing.assert_close(model(ids).logits, plain(ids).logits)


@pytest.mark.parametrize("part", ["attention_conv", "feed_forward_conv"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_both_of_a_block_are_heard(part, norm_position):
    """A convolution that exists and is not called, or is called for the other part."""
    model, ids = small_lm(conv_width=3, norm_position=norm_position), random_ids(1, 9)
    before = model(ids).logits
    with torch.no_grad():
        getattr(model.backbone.blocks[1], part).weight.zero_()
    assert (model(ids).logits - before).abs().max() > 1e-3


def test_each_reads_what_its_part_reads():
    """A convolution before the norm, or on the stream itself: block and parts by hand."""
    model = small_lm(conv_width=3, positions="none")
    block, x = model.backbone.blocks[0], torch.randn(1, 5, 24)
    y = x + block.attention(block.attention_conv(block.attention_norm(x)), causal=True)[0]
    y = y + block.feed_forward(block.feed_forward_conv(block.feed_forward_norm(y)))
    torch.testing.assert_close(block(x, causal=True)[0], y)


def test_a_cache_can_go_back():
    """What the convolutions read forgotten at a crop: five tokens read, two taken back, others written."""
    model, ids = small_lm(conv_width=4), random_ids(1, 9)
    cache = KVCache(model.config, max_len=9)
    with torch.no_grad():
        model(ids[:, :3], cache=cache)
        model(random_ids(1, 2) + 1, cache=cache)
        cache.crop(3)
        logits = model(ids[:, 3:], cache=cache).logits
        torch.testing.assert_close(logits, model(ids).logits[:, 3:], atol=1e-4, rtol=1e-4)


def test_rows_of_a_cache_can_be_exchanged_and_spread():
    """Rows of keys exchanged without those of the convolutions; a beginning copied without its zeros."""
    model, ids = small_lm(conv_width=4), random_ids(2, 8)
    with torch.no_grad():
        whole = model(ids).logits
        cache = KVCache(model.config, batch_size=2)
        model(ids[:, :5], cache=cache)
        cache.reorder(torch.tensor([1, 0, 1]))
        turned = model(ids[[1, 0, 1], 5:], cache=cache).logits
        torch.testing.assert_close(turned, whole[[1, 0, 1], 5:], atol=1e-4, rtol=1e-4)
        one, three = KVCache(model.config, max_len=5), KVCache(model.config, batch_size=3, max_len=8)
        model(ids[:1, :5], cache=one)
        three.begin_with(one)
        behind = model(ids[:1, 5:].expand(3, -1), cache=three).logits
        torch.testing.assert_close(behind, whole[:1, 5:].expand(3, -1, -1), atol=1e-4, rtol=1e-4)


def test_a_cache_keeps_room_and_gradients_apart():
    """Memory written beyond its end or under a gradient, which the convolution would do before attention can refuse."""
    model, ids = small_lm(conv_width=4), random_ids(1, 9)
    with torch.no_grad(), pytest.raises(ValueError, match="room for 8 positions and holds 0: 9 more do not fit"):
        model(ids, cache=KVCache(model.config, max_len=8))
    with torch.no_grad(), pytest.raises(ValueError, match="a batch of 2 cannot take a batch of 1"):
        model(ids, cache=KVCache(model.config, batch_size=2))
    with pytest.raises(RuntimeError, match="does not carry gradients"):
        model(ids, cache=KVCache(model.config))
    bare = KVCache(small_config())
    assert KVCache(model.config).n_bytes - bare.n_bytes == 2 * 2 * (32 + 3) * 24 * 4


def test_what_looks_both_ways_is_refused():
    """A convolution over the past in a model that reads the future too, or beside a mask it would not keep."""
    config = small_config(conv_width=4)
    for kind in (Encoder, EncoderDecoderLM):
        with pytest.raises(ValueError, match="conv_width=4: short convolutions look back only"):
            kind(config)
    with pytest.raises(ValueError, match="with conv_width=4 each position also reads"):
        DecoderLM(config)(random_ids(1, 5), mask=prefix_mask(5, prefix_len=2))


@pytest.mark.parametrize("width", [1, 2, 4, 9])
def test_a_sliding_cache_keeps_the_last_inputs(width):
    """One input too few or too many kept, after pieces longer and shorter than the convolution; padding kept as one."""
    model, ids = small_lm(conv_width=width, sliding_window=3), random_ids(2, 16)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    cache = SlidingKVCache(model.config, batch_size=2)
    n_bytes, read = cache.n_bytes, 0
    with torch.no_grad():
        whole = model(ids, attention_mask=mask).logits
        for piece in ids.split([7, 1, 1, 2, 5], dim=1):
            read += piece.shape[1]
            logits = model(piece, attention_mask=mask[:, :read], cache=cache).logits
            wanted = whole[:, read - piece.shape[1] : read]
            real = mask[:, read - piece.shape[1] : read].bool()
            torch.testing.assert_close(logits[real], wanted[real], atol=1e-4, rtol=1e-4)
    assert cache.n_bytes == n_bytes
    assert (
        n_bytes - SlidingKVCache(small_config(sliding_window=3), batch_size=2).n_bytes == 4 * 2 * (width - 1) * 24 * 4
    )


def test_a_pass_that_breaks_off_can_be_made_again():
    """Inputs counted as read by a pass that never came to its end."""
    model, ids = small_lm(conv_width=4), random_ids(1, 9)
    pool = PagePool(model.config, n_pages=3, page_size=4)
    cache = PagedCache(pool, [pool.new_sequence()])
    with torch.no_grad():
        model(ids[:, :5], cache=cache)
        hook = model.backbone.blocks[1].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(ids[:, 5:], cache=cache)
        hook.remove()
        again = model(ids[:, 5:], cache=cache).logits
        torch.testing.assert_close(again, model(ids).logits[:, 5:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["sliding", "paged"])
def test_caches_refuse_a_gradient_and_another_batch(kind):
    """What convolutions read kept under a gradient, or for other rows, before attention can refuse."""
    model, ids = small_lm(conv_width=4, sliding_window=5), random_ids(2, 3)
    pool = PagePool(model.config, n_pages=3)
    sliding, paged = SlidingKVCache(model.config, batch_size=2), PagedCache(pool, [pool.new_sequence() for _ in "ab"])
    cache = {"sliding": sliding, "paged": paged}[kind]
    with pytest.raises(RuntimeError, match="does not carry gradients"):
        model(ids, cache=cache)
    with torch.no_grad(), pytest.raises(ValueError, match=r"cannot take a batch of 1"):
        model(ids[:1], cache=cache)


class KeysAlone:
    """A layer's share of a cache that knows attention alone."""

    def append(self, k, v):
        return k, v


def test_caches_of_keys_alone_are_refused():
    """A cache that would silently forget what came before."""
    with pytest.raises(ValueError, match="conv_width=4: a KeysAlone keeps keys and values"):
        ShortConv(d_model=6, width=4)(torch.zeros(1, 3, 6), cache=KeysAlone())


def test_the_modern_preset_has_them():
    """A preset without the part its figures were measured with."""
    assert TransformerConfig.modern().conv_width == 4
