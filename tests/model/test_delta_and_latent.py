"""The delta rule and latent attention against their formulas, and mistakes in them that these tests must notice."""

import pytest
import torch
import torch.nn.functional as F

from llmbook.model import DeltaMixer, DeltaRule, KVCache, LatentAttention, LatentMixer, attend
from llmbook.model import delta_rule as exported
from llmbook.model.linear_attention import linear_attention
from tests.model.helpers import random_ids, shake, small_config, small_lm
from tests.mutations import must_be_noticed

MODULE = __import__("llmbook.model.delta_rule", fromlist=["delta_rule"])
LATENT = __import__("llmbook.model.latent_attention", fromlist=["attend"])


def by_definition(q, k, v, beta):
    """The recurrence, one position after the other, with loops."""
    rows = []
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            state = torch.zeros(q.shape[3], v.shape[3])
            for t in range(q.shape[2]):
                stands = k[b, h, t] @ state
                state = state + beta[b, h, t] * torch.outer(k[b, h, t], v[b, h, t] - stands)
                rows.append(q[b, h, t] @ state)
    return torch.stack(rows).unflatten(0, q.shape[:3])


def of_queries(n=11):
    generator = torch.Generator().manual_seed(0)
    q, k = (F.normalize(torch.randn(2, 3, n, 4, generator=generator), dim=-1) for _ in range(2))
    v, beta = torch.randn(2, 3, n, 5, generator=generator), torch.rand(2, 3, n, generator=generator)
    return q, k, v, beta


@pytest.mark.parametrize("chunk", [1, 3, 4, 64])
def test_the_delta_rule_is_its_recurrence(chunk):
    """Catches a chunk that reads its own future, a correction that misses what the chunk itself wrote, a lost β."""
    inputs = [x.requires_grad_() for x in of_queries()]
    ours, wanted = MODULE.delta_rule(*inputs, chunk=chunk)[0], by_definition(*inputs)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    of_ours, of_wanted = (torch.autograd.grad((y * weights).sum(), inputs) for y in (ours, wanted))
    for got, expected in zip(of_ours, of_wanted, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_a_state_is_handed_on_in_uneven_pieces():
    """Catches a state that leaves out its last chunk, or is counted twice."""
    q, k, v, beta = of_queries()
    state, read = None, []
    for piece in torch.arange(11).split([1, 6, 4]):
        out, state = MODULE.delta_rule(q[:, :, piece], k[:, :, piece], v[:, :, piece], beta[:, :, piece], state=state)
        read.append(out)
    torch.testing.assert_close(torch.cat(read, 2), by_definition(q, k, v, beta), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="chunk=0"):
        exported(q, k, v, beta, chunk=0)


def test_a_value_is_replaced_and_not_added():
    """Catches linear attention under another name."""
    k = torch.eye(4)[[0, 1, 0]][None, None]
    v = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 7, 0, 0]])[None, None]
    read, _ = MODULE.delta_rule(k, k, v, torch.ones(1, 1, 3))
    torch.testing.assert_close(read[0, 0, 2], torch.tensor([0.0, 7, 0, 0]))
    _, sums = linear_attention(k, k, v)
    torch.testing.assert_close(sums[0, 0, 0, :2], torch.tensor([1.0, 7]))


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_its_control_only_adds(chunk):
    """Catches a control that still corrects within a chunk, or against the state."""
    q, k, v, beta = of_queries()
    ours, state = exported(q, k, v, beta, replace=False, chunk=chunk)
    torch.testing.assert_close(ours, (q @ k.mT).tril() @ (beta[..., None] * v), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, k.mT @ (beta[..., None] * v), atol=1e-5, rtol=1e-5)
    layer = DeltaMixer(replace=False).make(small_config())
    assert not layer.replace
    assert DeltaMixer().make(small_config()).replace
    with pytest.raises(ValueError, match="replace=1 is neither"):
        DeltaMixer(replace=1)


def test_precision_and_autocast():
    """Catches a triangular system in bfloat16, which has no kernel, and an output in another type than its input."""
    q, k, v, beta = of_queries()
    low = exported(q.bfloat16(), k.bfloat16(), v.bfloat16(), beta.bfloat16())[0]
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), by_definition(q, k, v, beta), atol=0.1, rtol=0.1)
    layer = shake(DeltaRule(d_model=8, n_heads=2, d_head=4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(1, 5, 8)).isfinite().all()


def test_padding_writes_nothing():
    """Catches padding that corrects the state of the tokens before it."""
    layer = shake(DeltaRule(d_model=8, n_heads=2, d_head=4))
    x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(3))
    real = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1]]).bool()
    ours = layer(x, real=real)
    for row in range(2):
        torch.testing.assert_close(ours[row, real[row]], layer(x[row : row + 1, real[row]])[0], atol=1e-5, rtol=1e-5)


def wanted_of(layer, x, real):
    """Latent attention with one shared key head: the projections stand on the side of query and mixture."""
    c = layer.latent_norm(layer.kv_down(x))  # [B, T, R]
    up_k, up_v = (up.weight.unflatten(0, (layer.n_heads, layer.d_head)) for up in (layer.k_up, layer.v_up))  # [H, D, R]
    q = torch.einsum("bthd,hdr->bhtr", layer.q_proj(x).unflatten(-1, (layer.n_heads, layer.d_head)), up_k)
    mask = None if real is None else real[:, None, None]
    mixed, _ = attend(q, c[:, None], c[:, None], mask=mask, causal=True, scale=layer.d_head**-0.5, backend="eager")
    return layer.o_proj(torch.einsum("bhtr,hdr->bthd", mixed, up_v).flatten(2))


@pytest.mark.parametrize("padded", [False, True])
def test_latent_attention_is_one_wide_shared_head(padded):
    """Catches a head that reads another's keys, a scale of the wrong width, padding that is read; with gradients."""
    layer = shake(LatentAttention(d_model=12, n_heads=3, d_head=4, d_latent=5), std=0.4)
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(3), requires_grad=True)
    real = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7]).bool() if padded else None
    ours, wanted = layer(x, real=real), wanted_of(layer, x, real)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    weights, held = torch.randn(ours.shape, generator=torch.Generator().manual_seed(4)), [x, *layer.parameters()]
    of_ours, of_wanted = (torch.autograd.grad((y * weights).sum(), held) for y in (ours, wanted))
    for got, expected in zip(of_ours, of_wanted, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_memory_of_latent_attention():
    """Catches keys and values kept beside the latents, and padding forgotten once it lies in the cache."""
    model, ids = small_lm(mixers=(LatentMixer(d_latent=5),), positions="sinusoidal"), random_ids(2, 8)
    cache = KVCache(model.config, batch_size=2, max_len=16)
    model(ids, cache=cache)
    assert cache.n_bytes == 2 * 2 * 8 * (5 * 4 + 1)  # layers, rows, positions, numbers of 4 bytes and one flag
    padded, mask = F.pad(ids, (2, 0)), F.pad(torch.ones_like(ids), (2, 0))
    cache = KVCache(model.config, batch_size=2, max_len=16)
    model(padded[:, :6], attention_mask=mask[:, :6], cache=cache)
    later = model(padded[:, 6:], attention_mask=mask, cache=cache).logits
    torch.testing.assert_close(later, model(ids).logits[:, 4:], atol=1e-4, rtol=1e-4)


def forgets_to_subtract(q, k, v, beta, **more):
    return exported(q, k, v, beta, **more, replace=False)


def without_strength(q, k, v, beta, **more):
    return exported(q, k, v, (beta > 0).to(v), **more)


def starts_again(q, k, v, beta, *, state=None, chunk=64):
    return exported(q, k, v, beta, chunk=chunk)


def reads_before_it_writes(q, k, v, beta, **more):
    return exported(F.pad(q, (0, 0, 0, 1))[:, :, 1:], k, v, beta, **more)


def scaled_by_the_latent(q, k, v, **more):
    return attend(q, k, v, **more, scale=5**-0.5)


def padding_is_read(q, k, v, *, mask, **more):
    return attend(q, k, v, **more)


@pytest.mark.parametrize(
    ("module", "name", "mistake", "test"),
    [
        (MODULE, "delta_rule", forgets_to_subtract, test_a_value_is_replaced_and_not_added),
        (MODULE, "delta_rule", forgets_to_subtract, lambda: test_the_delta_rule_is_its_recurrence(4)),
        (MODULE, "delta_rule", without_strength, lambda: test_the_delta_rule_is_its_recurrence(4)),
        (MODULE, "delta_rule", without_strength, test_a_state_is_handed_on_in_uneven_pieces),
        (MODULE, "delta_rule", starts_again, test_a_state_is_handed_on_in_uneven_pieces),
        (MODULE, "delta_rule", reads_before_it_writes, lambda: test_the_delta_rule_is_its_recurrence(64)),
        (LATENT, "attend", scaled_by_the_latent, lambda: test_latent_attention_is_one_wide_shared_head(False)),
        (LATENT, "attend", padding_is_read, lambda: test_latent_attention_is_one_wide_shared_head(True)),
        (LATENT, "attend", padding_is_read, test_the_memory_of_latent_attention),
    ],
)
def test_mistakes_are_noticed(module, name, mistake, test, monkeypatch):
    """Catches tests that would stay green over the usual mistakes."""
    must_be_noticed(module, name, mistake, test, monkeypatch)
