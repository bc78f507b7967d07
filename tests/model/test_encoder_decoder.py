"""The encoder–decoder against torch.nn, and what must hold whatever its parts."""

import pytest
import torch
from torch import nn

from llmbook.model import EncoderDecoderLM, KVCache, PagedCache, PagePool, TransformerConfig
from tests.model.helpers import random_ids, shake, small_config

KINDS = {
    "vaswani": lambda **k: TransformerConfig.vaswani(
        **{**dict(vocab_size=31, max_seq_len=32, d_model=24, n_layers=2, n_heads=4, d_ff=40, dropout=0.0), **k}
    ),
    "t5": lambda **k: TransformerConfig.t5(**{**dict(vocab_size=31, d_model=24, n_layers=2, n_heads=4), **k}),
    "rope": lambda **k: small_config(**{**dict(positions="rope", norm="rmsnorm", feed_forward="swiglu"), **k}),
}


def small(kind: str, **overrides) -> EncoderDecoderLM:
    return shake(EncoderDecoderLM(KINDS[kind](**overrides)))


def copy_attention(ours, theirs) -> None:
    projections = (ours.q_proj, ours.k_proj, ours.v_proj)
    theirs.in_proj_weight.data = torch.cat([p.weight.data for p in projections])
    theirs.in_proj_bias.data = torch.cat([p.bias.data for p in projections])
    theirs.out_proj.load_state_dict(ours.o_proj.state_dict())


def torch_stack(backbone, *, decoder: bool) -> nn.Module:
    """torch.nn's own post-norm stack with our weights."""
    sizes = dict(d_model=24, nhead=4, dim_feedforward=40, dropout=0.0, batch_first=True)
    layer = (nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer)(**sizes)
    stack = nn.TransformerDecoder(layer, 2) if decoder else nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    for ours, theirs in zip(backbone.blocks, stack.layers, strict=True):
        copy_attention(ours.attention, theirs.self_attn)
        norms = [ours.attention_norm, ours.feed_forward_norm]
        if decoder:
            copy_attention(ours.cross_attention, theirs.multihead_attn)
            norms.insert(1, ours.cross_attention_norm)
        for i, norm in enumerate(norms, start=1):
            getattr(theirs, f"norm{i}").load_state_dict(norm.state_dict())
        theirs.linear1.load_state_dict(ours.feed_forward.up_proj.state_dict())
        theirs.linear2.load_state_dict(ours.feed_forward.down_proj.state_dict())
    return stack


def test_vaswani_equals_torch():
    """A norm on the wrong side, cross-attention that reads itself, a mask not passed on: outputs and gradients."""
    model = small("vaswani")
    source, target = random_ids(2, 7), random_ids(2, 5)
    real = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    encoder, decoder = torch_stack(model.encoder, decoder=False), torch_stack(model.decoder, decoder=True)
    positions = [torch.arange(n).expand(2, n) for n in (7, 5)]
    memory = encoder(model.encoder.embeddings(source, positions[0]), src_key_padding_mask=~real.bool())
    future = nn.Transformer.generate_square_subsequent_mask(5)
    wanted = decoder(
        model.decoder.embeddings(target, positions[1]), memory, tgt_mask=future, memory_key_padding_mask=~real.bool()
    )
    out = model(source, target, attention_mask=real)
    torch.testing.assert_close(out.last_hidden_state, wanted, atol=1e-4, rtol=1e-4)
    probe = torch.randn_like(wanted)
    (out.last_hidden_state * probe).sum().backward()
    (wanted * probe).sum().backward(inputs=list(encoder.parameters()) + list(decoder.parameters()))
    for ours, theirs in [(model.encoder, encoder), (model.decoder, decoder)]:
        for i, layer in enumerate(theirs.layers):
            torch.testing.assert_close(
                ours.blocks[i].feed_forward.up_proj.weight.grad, layer.linear1.weight.grad, atol=1e-4, rtol=1e-4
            )
    block, layer = model.decoder.blocks[0], decoder.layers[0]
    q, k, v = layer.multihead_attn.in_proj_weight.grad.chunk(3)
    for ours, theirs in zip((block.cross_attention.q_proj, block.cross_attention.k_proj), (q, k), strict=True):
        torch.testing.assert_close(ours.weight.grad, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(block.cross_attention.v_proj.weight.grad, v, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_sees_all_input_and_no_future(kind):
    """A causal encoder, a decoder that looks ahead, or one deaf to its input."""
    model, source, target = small(kind), random_ids(1, 6), random_ids(1, 6)
    before = model(source, target).logits
    later = target.clone()
    later[0, 4] = (later[0, 4] + 1) % 31
    assert torch.equal(model(source, later).logits[:, :4], before[:, :4])
    for place in (0, 5):
        other = source.clone()
        other[0, place] = (other[0, place] + 1) % 31
        assert (model(other, target).logits - before).abs().amax(-1).gt(1e-4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_with_a_cache_equals_one_pass(kind):
    """Memory's keys computed from the wrong sequence, or a position offset forgotten: chunks of 3, 1 and 4."""
    model, source, target = small(kind, n_decoder_layers=3), random_ids(2, 7), random_ids(2, 8)
    real = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    with torch.no_grad():
        memory = model.encode(source, real)
        cache = KVCache(model.decoder.config, batch_size=2, max_len=8)
        pieces = [
            model(decoder_input_ids=piece, memory=memory, attention_mask=real, cache=cache).logits
            for piece in target.split([3, 1, 4], dim=1)
        ]
        torch.testing.assert_close(
            torch.cat(pieces, 1), model(source, target, attention_mask=real).logits, atol=1e-4, rtol=1e-4
        )


def test_an_emptied_cache_reads_another_source():
    """Catches a source that answers for the next one, uncounted memory, and a cache with the wrong number of layers."""
    model = small("t5")
    first, second, start = random_ids(1, 5), random_ids(1, 7).flip(1), torch.tensor([[1]])
    cache = KVCache(model.decoder.config, max_len=8)
    before = cache.n_bytes
    with torch.no_grad():
        model(first, start, cache=cache)
        remembered = sum(t.nbytes for pair in cache.memories for t in pair)
        assert cache.n_bytes == before + remembered > before
        cache.crop(1)
        assert cache.memories[0] is not None  # what has been written still goes with its source
        cache.crop(0)
        assert cache.n_bytes == before
        there, anew = model(second, start, cache=cache).logits, model(second, start).logits
        torch.testing.assert_close(there, anew, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"n_decoder_layers=1.*model.decoder.config"):
        KVCache(TransformerConfig.t5(n_decoder_layers=1))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_left_changes_nothing(kind):
    """Padding counted as a position by either stack, or read by one of the three attentions."""
    model, source, target = small(kind), random_ids(1, 5), random_ids(1, 4)
    nines = torch.full((1, 3), 9)
    beside = model(
        torch.cat([nines, source], dim=1),
        torch.cat([nines, target], dim=1),
        attention_mask=torch.tensor([[0] * 3 + [1] * 5]),
        decoder_attention_mask=torch.tensor([[0] * 3 + [1] * 4]),
    )
    torch.testing.assert_close(beside.logits[:, 3:], model(source, target).logits, atol=1e-4, rtol=1e-4)


def test_padded_input_changes_nothing():
    """Cross-attention that reads padding."""
    model, source, target = small("vaswani"), random_ids(1, 5), random_ids(1, 4)
    padded = torch.cat([source, torch.full((1, 3), 9)], dim=1)
    real = torch.tensor([[1] * 5 + [0] * 3])
    alone, beside = model(source, target), model(padded, target, attention_mask=real, need_weights=True)
    torch.testing.assert_close(beside.logits, alone.logits, atol=1e-4, rtol=1e-4)
    assert [w.shape for w in beside.cross_attentions] == [(1, 4, 4, 8)] * 2
    assert beside.cross_attentions[0][..., 5:].abs().max() == 0


def test_one_token_table_for_both_sides():
    """Input tables that drift apart, or a free head that is tied: parameters of the published models."""
    with torch.device("meta"):
        assert EncoderDecoderLM(TransformerConfig.t5()).num_parameters() == 60_506_624
        v1_1 = TransformerConfig.t5(
            feed_forward="geglu_tanh", d_ff=1024, n_layers=8, n_heads=6, d_head=64, tie_embeddings=False
        )
        assert EncoderDecoderLM(v1_1).num_parameters() == 76_961_152
    model = small("rope", tie_embeddings=False)
    assert model.encoder.embeddings.tokens is model.decoder.embeddings.tokens
    assert model.lm_head.weight is not model.encoder.embeddings.tokens.weight
    assert small("t5").config.logit_scale == 24**-0.5
    assert small("t5").config.replace(d_model=48).logit_scale == 48**-0.5  # a width that keeps the scale of another
    assert TransformerConfig.t5(logit_scale=0.5).replace(d_model=256).logit_scale == 0.5
    assert TransformerConfig.t5(tie_embeddings=False).logit_scale == 1.0


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (dict(input_ids=1), "decoder_input_ids are missing"),
        (dict(decoder_input_ids=1), "either input_ids or the memory"),
    ],
)
def test_incomplete_inputs_are_refused(inputs, message):
    """A forgotten half of the input, accepted until something deep inside breaks."""
    with pytest.raises(ValueError, match=message):
        small("t5")(**{name: random_ids(1, 4) for name in inputs})


def test_two_stacks_refuse_half_of_what_they_need():
    """A decoder that reads nothing, and a cache that would lose the input's keys at the second step."""
    with pytest.raises(ValueError, match="cross-attention needs memory"):
        small("t5").decoder(random_ids(1, 4))
    model = small("rope")
    pool = PagePool(model.decoder.config, n_pages=4, page_size=4)
    cache = PagedCache(pool, [pool.new_sequence()])
    with torch.no_grad(), pytest.raises(ValueError, match=r"PagedLayerCache cannot keep .*: use a KVCache"):
        model(random_ids(1, 4), random_ids(1, 3), cache=cache)
