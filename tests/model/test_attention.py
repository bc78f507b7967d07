"""``attend`` and ``MultiHeadAttention`` against PyTorch's own, on every combination of mask and bias."""

import inspect
import math

import pytest
import torch
from torch import nn

from llmbook.model import (
    MultiHeadAttention,
    attend,
    causal_mask,
    prefix_mask,
    sliding_window_mask,
)


def qkv(batch=2, heads=4, kv_heads=4, q_len=5, k_len=5, width=8):
    q = torch.randn(batch, heads, q_len, width, requires_grad=True)
    k = torch.randn(batch, kv_heads, k_len, width, requires_grad=True)
    v = torch.randn(batch, kv_heads, k_len, width, requires_grad=True)
    return q, k, v


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_three_tokens_by_hand():
    """A wrong transpose, scale or softmax axis: two keys, one twice as well matched as the other, by hand."""
    q = torch.tensor([[[[2.0]]]])
    k = torch.tensor([[[[0.0], [math.log(3) / 2]]]])
    v = torch.tensor([[[[4.0], [8.0]]]])
    mixed, weights = attend(q, k, v, backend="eager", need_weights=True)
    close(weights.flatten(), torch.tensor([0.25, 0.75]))
    close(mixed.flatten(), torch.tensor([7.0]))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("q_len", "kv_heads"), [(5, 4), (3, 2), (1, 1)])
def test_eager_equals_sdpa(causal, masked, biased, q_len, kv_heads):
    """The readable and the fast backend drift apart, in outputs or in gradients."""
    q, k, v = qkv(q_len=q_len, kv_heads=kv_heads)
    mask = torch.rand(2, 1, q_len, 5) > 0.4 if masked else None
    bias = torch.randn(1, 4, q_len, 5) if biased else None
    results = []
    for backend in ("eager", "sdpa"):
        out, _ = attend(q, k, v, mask=mask, bias=bias, causal=causal, backend=backend)
        results.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
    for eager, sdpa in zip(*results, strict=True):
        torch.testing.assert_close(eager, sdpa, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_bias_may_be_wider_than_what_it_is_added_to(causal, backend):
    """Catches a backend that fails on the biases of a model in 16 bits, which are computed in float32."""
    q, k, v = (x.detach() for x in qkv())
    bias = torch.randn(4, 5, 5)
    narrow, _ = attend(*(x.bfloat16() for x in (q, k, v)), bias=bias, causal=causal, backend=backend)
    assert narrow.dtype == torch.bfloat16
    wide, _ = attend(q, k, v, bias=bias, causal=causal, backend=backend)
    torch.testing.assert_close(narrow.float(), wide, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_mask_of_numbers_is_refused_by_name(backend):
    """Catches ones and zeros added to the scores, or an error about types from within a kernel."""
    unchecked = inspect.unwrap(attend)  # as a reader calls it, without the tests' own check of types
    with pytest.raises(ValueError, match=r"mask holds torch.int64: give True where a query may attend"):
        unchecked(*qkv(), mask=torch.ones(5, 5, dtype=torch.long), backend=backend)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(), (5,), (3, 1), (4, 1, 1), (2, 1, 1, 5)])
def test_masks_and_biases_broadcast_as_they_say(shape, causal, backend):
    """A shape the docstring promises and a kernel refuses (no axis for the queries), or one read along another axis."""
    q, k, v = qkv(q_len=3)
    bias = torch.randn(shape)
    for given in (dict(bias=bias), dict(mask=bias > 0), dict(bias=bias, mask=bias > -1)):
        whole = {name: tensor.expand(2, 4, 3, 5) for name, tensor in given.items()}
        short, _ = attend(q, k, v, causal=causal, backend=backend, **given)
        full, _ = attend(q, k, v, causal=causal, backend="eager", **whole)
        torch.testing.assert_close(short, full, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_row_that_may_read_nothing_is_zero(backend):
    """NaN from a fully masked query, forward or backward."""
    q, k, v = qkv()
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0, 0, 2] = False
    out, _ = attend(q, k, v, mask=mask, backend=backend)
    assert out[0, :, 2].eq(0).all()
    assert out[1, :, 2].ne(0).all()
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_causal_queries_are_the_last_of_the_keys(backend):
    """The kernel's top-left causal rule used with a cache: two new queries over five keys must see four and five."""
    q, k, v = qkv(q_len=5)
    full, _ = attend(q, k, v, causal=True, backend=backend)
    last, _ = attend(q[:, :, 3:], k, v, causal=True, backend=backend)
    close(last, full[:, :, 3:])


def test_weights_are_probabilities():
    """Weights returned after dropout or before the softmax."""
    q, k, v = qkv()
    _, weights = attend(q, k, v, causal=True, backend="eager", need_weights=True, dropout=0.5)
    close(weights.sum(-1), torch.ones(2, 4, 5))
    assert weights.masked_select(~causal_mask(5)).eq(0).all()


def test_grouped_queries_share_neighbouring_heads():
    """Key heads tiled (0,1,0,1) instead of repeated (0,0,1,1)."""
    q, k, v = qkv(kv_heads=2)
    shared, _ = attend(q, k, v)
    each, _ = attend(q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]])
    close(shared, each)


def test_masks_say_who_may_read_whom():
    """A mask shifted by one, or True and False exchanged."""
    t = True
    f = False
    assert causal_mask(2, 3).tolist() == [[t, t, f], [t, t, t]]
    assert sliding_window_mask(3, window=2).tolist() == [
        [t, f, f],
        [t, t, f],
        [f, t, t],
    ]
    assert prefix_mask(3, prefix_len=2).tolist() == [[t, t, f], [t, t, f], [t, t, t]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attend(*qkv(kv_heads=3)), "4 query heads cannot share 3"),
        (lambda: attend(*qkv(), need_weights=True), "backend='eager'"),
        (lambda: causal_mask(4, 2), "q_len=4"),
        (lambda: sliding_window_mask(4, window=0), "window=0"),
        (lambda: prefix_mask(4, prefix_len=-1), "prefix_len=-1"),
        (lambda: MultiHeadAttention(d_model=10, n_heads=4), "d_model=10"),
        (
            lambda: MultiHeadAttention(d_model=12, n_heads=4, n_kv_heads=3),
            "n_kv_heads=3",
        ),
    ],
)
def test_impossible_requests_are_refused_by_name(call, message):
    """A bad size accepted in silence."""
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("cross", [False, True])
def test_multi_head_attention_equals_torch(cross):
    """Any mistake in splitting heads, projecting or merging, in outputs or gradients, for self and cross attention."""
    ours = MultiHeadAttention(d_model=24, n_heads=4)
    theirs = nn.MultiheadAttention(24, 4, batch_first=True)
    for p in ours.parameters():
        nn.init.normal_(p, std=0.2)
    projections = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.out_proj.load_state_dict(ours.o_proj.state_dict())
    x, context = torch.randn(2, 5, 24), (torch.randn(2, 7, 24) if cross else None)
    source = x if context is None else context
    a, weights = ours(x, context, need_weights=True)
    b, reference = theirs(x, source, source, average_attn_weights=False)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights, reference, atol=1e-5, rtol=1e-4)
    a.square().sum().backward()
    b.square().sum().backward()
    gradient = torch.cat([p.weight.grad for p in projections])
    torch.testing.assert_close(gradient, theirs.in_proj_weight.grad, atol=1e-4, rtol=1e-4)


def test_cross_attention_has_no_past():
    """``causal`` silently applied between two different sequences."""
    layer = MultiHeadAttention(d_model=8, n_heads=2)
    with pytest.raises(ValueError, match="cross-attention"):
        layer(torch.randn(1, 3, 8), torch.randn(1, 4, 8), causal=True)
