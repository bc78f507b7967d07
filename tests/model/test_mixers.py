"""Other parts in a block: linear attention and experts against their formulas, with their memory, and where refused."""

import json

import pytest
import torch
import torch.nn.functional as F

from llmbook.adaptation import PrefixTuned
from llmbook.compression import keep_parts
from llmbook.inference import generate
from llmbook.interop import load_model, save_model
from llmbook.model import (
    DecoderLM,
    DeltaMixer,
    Encoder,
    Experts,
    KVCache,
    LatentMixer,
    LinearAttention,
    LinearMixer,
    PagePool,
    SlidingKVCache,
    TransformerConfig,
    linear_attention,
    prefix_mask,
)
from llmbook.parallel import tensor_parallel
from llmbook.text import CharTokenizer
from tests.model.helpers import random_ids, shake, small_config, small_lm

HYBRID = dict(mixers=(LinearMixer(), None), positions="rope")
KINDS = {
    "linear": dict(mixers=(LinearMixer(),), positions="none"),
    "hybrid": HYBRID,
    "hybrid with convolutions": HYBRID | dict(conv_width=3),
    "delta": dict(mixers=(DeltaMixer(),), positions="none"),
    "delta hybrid": dict(mixers=(DeltaMixer(), None), positions="rope", conv_width=3),
    "latent": dict(mixers=(LatentMixer(d_latent=5),), positions="sinusoidal"),
    "experts": dict(experts=Experts(n_experts=5, n_active=2)),
    "both": HYBRID | dict(experts=Experts(n_experts=3, n_active=1), feed_forward="swiglu"),
}


def by_definition(q, k, v):
    """The recurrence, one position after the other, with loops."""
    out = torch.empty_like(v)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            state, total = torch.zeros(q.shape[3], v.shape[3]), torch.zeros(q.shape[3])
            for t in range(q.shape[2]):
                state = state + torch.outer(k[b, h, t], v[b, h, t])
                total = total + k[b, h, t]
                out[b, h, t] = q[b, h, t] @ state / (q[b, h, t] @ total)
    return out


def of_queries(n=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, n, 4, generator=generator) for _ in range(3))
    return F.elu(q) + 1, F.elu(k) + 1, v


@pytest.mark.parametrize("chunk", [1, 3, 4, 64])
def test_linear_attention_is_its_recurrence(chunk):
    """Catches a chunk that reads its own future, a state counted twice, and sums that are not normalised."""
    q, k, v = (x.requires_grad_() for x in of_queries())
    ours, _ = linear_attention(q, k, v, chunk=chunk)
    wanted = by_definition(q, k, v)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(ours)
    for got, expected in zip(
        *(torch.autograd.grad((y * weights).sum(), [q, k, v]) for y in (ours, wanted)), strict=True
    ):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_a_state_stands_for_all_that_was_read():
    """Catches a state that is not handed on whole."""
    q, k, v = of_queries()
    first, state = linear_attention(q[:, :, :5], k[:, :, :5], v[:, :, :5])
    second, _ = linear_attention(q[:, :, 5:], k[:, :, 5:], v[:, :, 5:], state=state)
    torch.testing.assert_close(torch.cat([first, second], 2), linear_attention(q, k, v)[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="chunk=0"):
        linear_attention(q, k, v, chunk=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_model_of_them_is_causal_and_remembers(kind):
    """Catches a future that is read, a memory that differs from reading at once, padding that is read as a token."""
    model, ids = small_lm(**KINDS[kind]), random_ids(2, 16)
    whole = model(ids).logits
    changed = ids.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 31
    torch.testing.assert_close(model(changed).logits[:, :9], whole[:, :9], atol=1e-4, rtol=1e-4)
    assert (model(changed).logits[:, 9:] - whole[:, 9:]).abs().max() > 1e-2
    cache = KVCache(model.config, batch_size=2, max_len=16)
    pieces = [model(piece, cache=cache).logits for piece in ids.split([7, 1, 3, 5], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-4, rtol=1e-4)
    padded, mask = F.pad(ids, (3, 0)), F.pad(torch.ones_like(ids), (3, 0))
    torch.testing.assert_close(model(padded, attention_mask=mask).logits[:, 3:], whole, atol=1e-4, rtol=1e-4)
    cache = KVCache(model.config, batch_size=2, max_len=19)
    model(padded[:, :8], attention_mask=mask[:, :8], cache=cache)
    later = model(padded[:, 8:], attention_mask=mask, cache=cache).logits
    torch.testing.assert_close(later, whole[:, 5:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_memory_of_a_state_does_not_grow_and_follows_its_rows():
    """Catches keys kept for layers that have none, a beam that takes over another's state, a copy that shares it."""
    model, ids = small_lm(**HYBRID), random_ids(2, 8)
    caches = {n: KVCache(model.config, batch_size=2, max_len=n) for n in (16, 32)}
    for cache in caches.values():
        model(ids, cache=cache)
    state = caches[16].states[0]["linear"]
    assert caches[32].n_bytes - caches[16].n_bytes == 2 * 2 * 16 * 24 * 4  # keys and values of the one attention layer
    assert state.shape == (2, 4, 6, 7)
    swapped = KVCache(model.config, batch_size=2, max_len=16)
    model(ids.flip(0), cache=swapped)
    swapped.reorder(torch.tensor([1, 0]))
    torch.testing.assert_close(swapped.states[0]["linear"], state)
    one, many = KVCache(model.config, max_len=16), KVCache(model.config, batch_size=3, max_len=16)
    model(ids[:1], cache=one)
    many.begin_with(one)
    logits = model(ids[:1, :1].expand(3, 1), cache=many).logits
    torch.testing.assert_close(logits[2], model(ids[:1, :1], cache=one).logits[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="it can be cropped to 0, not to 5"):
        one.crop(5)
    one.crop(0)
    torch.testing.assert_close(model(ids[:1], cache=one).logits, model(ids[:1]).logits, atol=1e-5, rtol=1e-5)


def test_all_experts_are_a_dense_sum():
    """Catches shares that do not sum to 1, tokens given to a neighbour's expert, outputs counted twice."""
    model = small_lm(experts=Experts(n_experts=3, n_active=3))
    layer = model.backbone.blocks[0].feed_forward
    x = torch.randn(2, 5, 24, requires_grad=True)
    shares = layer.router(x).softmax(-1)  # [B, T, E]
    dense = sum(shares[..., e, None] * expert(x) for e, expert in enumerate(layer.experts))
    ours = layer(x)
    torch.testing.assert_close(ours, dense, atol=1e-5, rtol=1e-5)
    weights, held = torch.randn_like(ours), [x, *layer.parameters()]
    for got, wanted in zip(*(torch.autograd.grad((y * weights).sum(), held) for y in (ours, dense)), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_few_experts_are_the_dense_sum_of_the_best():
    """Catches a softmax over all scores, of which the chosen ones are a part; and experts that nobody chose."""
    layer = small_lm(experts=Experts(n_experts=5, n_active=2)).backbone.blocks[0].feed_forward
    x = torch.randn(1, 7, 24)
    scores = layer.router(x)
    kept = scores.masked_fill(scores < scores.topk(2).values[..., -1:], -torch.inf).softmax(-1)
    dense = sum(kept[..., e, None] * expert(x) for e, expert in enumerate(layer.experts))
    torch.testing.assert_close(layer(x), dense, atol=1e-5, rtol=1e-5)
    assert layer(torch.zeros(0, 24)).shape == (0, 24)


def test_experts_start_as_one_net_does():
    """Catches an addition to the stream that begins smaller because there are more experts to make it."""
    torch.manual_seed(0)
    few, many = (DecoderLM(small_config(experts=Experts(n_experts=n, n_active=1))) for n in (1, 6))
    plain = DecoderLM(small_config())
    for model in (few, many):
        expert = model.backbone.blocks[0].feed_forward.experts[0].down_proj.weight
        wanted = plain.backbone.blocks[0].feed_forward.down_proj.weight
        assert expert.std().item() == pytest.approx(wanted.std().item(), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_decodes_and_is_saved(kind, tmp_path):
    """Catches a part without a gradient, a decoder that cannot use the state, and a choice that is not written down."""
    tokenizer = CharTokenizer.train("abcdefgh. ")
    config = small_config(**KINDS[kind], init_std=0.1).replace(vocab_size=tokenizer.vocab_size)
    torch.manual_seed(0)
    model, ids = DecoderLM(config), torch.tensor(tokenizer.encode("abcdefgh." * 40))
    losses = []
    for step in range(60):
        start = 7 * step % 300
        logits = model(ids[None, start : start + 24]).logits
        loss = F.cross_entropy(logits[0], ids[start + 1 : start + 25])
        loss.backward()
        assert all(p.grad is not None for n, p in model.named_parameters() if "experts" not in n)
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= 0.5 * p.grad
                    p.grad = None
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    model.eval()
    prompt = ids[None, :5]
    text = generate(model, prompt, max_new_tokens=8, temperature=0.0)
    read = prompt
    for _ in range(8):  # without a cache
        read = torch.cat([read, model(read).logits[:, -1:].argmax(-1)], 1)
    assert text.tolist() == read.tolist()
    save_model(tmp_path / "saved", model, tokenizer)
    again = load_model(tmp_path / "saved")[0]
    assert again.config == model.config
    torch.testing.assert_close(again(prompt).logits, model(prompt).logits)


def test_a_configuration_travels():
    """Catches a mixer that comes back from JSON as a dictionary, or as attention."""
    config = small_config(**KINDS["both"])
    again = TransformerConfig.from_json(config.to_json())
    assert again == config
    assert again.mixers == (LinearMixer(), None)
    assert json.loads(config.to_json())["mixers"] == [{"kind": "linear"}, None]
    assert TransformerConfig.from_dict(small_config().to_dict()) == small_config()
    assert [small_config(mixers=(LinearMixer(), None)).mixer(i) for i in range(4)] == [LinearMixer(), None] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(mixers=("linear",)), "mixers=\\('linear',\\): give a tuple of linear, delta, latent mixers"),
        (dict(mixers=[{"kind": "liner"}]), "'liner'} describes none of: linear, delta, latent"),
        (dict(mixers=[{"kind": "linear", "n": 1}]), "unexpected keyword argument 'n'"),
        (dict(mixers=(LinearMixer(),) * 3), "are more than the 2 layers"),
        (dict(mixers=(LinearMixer(),), positions="rope"), "positions='rope' is attention's"),
        (dict(mixers=(LinearMixer(),), qk_norm=True), "qk_norm=True is attention's"),
        (dict(mixers=[{"kind": "latent", "d_latent": 0}]), "d_latent=0 must be a whole number"),
        (dict(mixers=(LatentMixer(d_latent=4),), positions="rope"), "positions='rope' is attention's"),
        (dict(experts=4), "experts=4: give Experts"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    """Catches a part that would be ignored, or fail where it is made."""
    with pytest.raises(ValueError, match=message):
        small_config(**settings)


@pytest.mark.parametrize(("n_experts", "n_active"), [(4, 0), (4, 5), (0, 0)])
def test_experts_that_cannot_be(n_experts, n_active):
    """Catches a token without an expert, and more experts than there are."""
    with pytest.raises(ValueError, match=f"n_active={n_active} of n_experts={n_experts}"):
        Experts(n_experts=n_experts, n_active=n_active)


def test_who_cannot_work_with_a_state_says_so():
    """Catches a mixer that is left out, or read past a mask, by what was made for attention."""
    model, ids = small_lm(**HYBRID), random_ids(1, 8)
    with pytest.raises(ValueError, match="need_weights: LinearAttention has no weights"):
        model(ids, need_weights=True)
    with pytest.raises(ValueError, match=r"with mixers=.* each position also reads what stands before it"):
        model(ids, mask=prefix_mask(8, prefix_len=2))
    with pytest.raises(ValueError, match="they need a causal model, not an encoder"):
        Encoder(model.config)
    with pytest.raises(ValueError, match=r"mixers=.*: pages hold keys and values"):
        PagePool(model.config, n_pages=2, page_size=4)
    windowed = small_lm(**HYBRID, sliding_window=4)
    with pytest.raises(ValueError, match="a SlidingLayerCache keeps keys and values, not the state"):
        windowed(ids, cache=SlidingKVCache(windowed.config))
    with pytest.raises(ValueError, match="a prefix is keys and values"):
        PrefixTuned(model, n_tokens=2)
    with pytest.raises(ValueError, match="only attention's heads and dense nets"):
        keep_parts(model, heads=torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="shares are made of attention"):
        tensor_parallel(model)
    cache = KVCache(model.config, max_len=8)
    with pytest.raises(RuntimeError, match="does not carry gradients"):
        model(ids, cache=cache)
    with pytest.raises(ValueError, match="a batch of 1 cannot take a batch of 2"), torch.no_grad():
        model(random_ids(2, 4), cache=cache)
    assert isinstance(shake(model).backbone.blocks[0].attention, LinearAttention)
