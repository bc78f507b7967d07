"""What must hold of every model, whatever its parts."""

import dataclasses
import inspect
import json
import math
import pickle
import re

import pytest
import torch
import torch.nn.functional as F

from llmbook.model import (
    Backbone,
    DecoderLM,
    Encoder,
    KVCache,
    RopeScaling,
    TransformerConfig,
    TwoStreamLM,
    prefix_mask,
)
from tests.model.helpers import OUTPUT, POSITIONS, SANDWICH, random_ids, shake, small_config, small_lm

PARTS = [
    dict(positions=p, norm=n, norm_position=w, feed_forward=f, n_kv_heads=kv, qk_norm=qk)
    for p, n, w, f, kv, qk in [
        ("none", "layernorm", "pre", "gelu", 4, False),
        ("sinusoidal", "layernorm", "post", "relu", 4, False),
        ("learned", "layernorm", "pre", "gelu_tanh", 2, False),
        ("t5", "rmsnorm", "pre", "geglu", 4, False),
        ("alibi", "layernorm", "post", "relu2", 1, True),
        ("rope", "rmsnorm", "pre", "swiglu", 2, True),
    ]
]
PARTS.append({**PARTS[-1], "conv_width": 4})
PARTS += [SANDWICH, OUTPUT]


@pytest.mark.parametrize("parts", PARTS, ids=lambda p: p["positions"])
def test_the_future_does_not_reach_the_past(parts):
    """A causal mask missing or shifted: changing token 6 must leave logits 0 … 5 bit for bit."""
    model, ids = small_lm(**parts), random_ids(2, 9)
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 31
    before, after = model(ids).logits, model(changed).logits
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().amax(-1).gt(1e-4).all()


@pytest.mark.parametrize("parts", PARTS, ids=lambda p: p["positions"])
def test_cached_chunks_equal_one_pass(parts):
    """A forgotten position offset, or the kernel's causal rule with a cache: chunks of 7, 1, 3 and 5 = 16 at once."""
    model, ids = small_lm(**parts), random_ids(2, 16)
    cache = KVCache(model.config, batch_size=2, max_len=20)
    with torch.no_grad():
        pieces = [model(chunk, cache=cache).logits for chunk in ids.split([7, 1, 3, 5], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, 1), model(ids).logits, atol=1e-4, rtol=1e-4)
    assert cache.length == 16


@pytest.mark.parametrize("parts", PARTS, ids=lambda p: p["positions"])
def test_left_padding_changes_nothing(parts):
    """Padding that is read, or counted as a position: short prompts beside long ones."""
    model, ids = small_lm(**parts), random_ids(1, 6)
    padded = F.pad(ids, (3, 0), value=5)
    mask = torch.tensor([[0] * 3 + [1] * 6])
    with torch.no_grad():
        alone = model(ids).logits
        beside = model(padded, attention_mask=mask).logits[:, 3:]
        cache = KVCache(model.config, max_len=9)
        model(padded[:, :5], attention_mask=mask[:, :5], cache=cache)
        cached = model(padded[:, 5:], attention_mask=mask, cache=cache).logits
    torch.testing.assert_close(beside, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cached, alone[:, 2:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_window_hides_what_is_far(positions):
    """A window off by one, ignored in a later layer or lost with a cache: two layers of 3 reach back 4 positions."""
    model, ids = small_lm(positions=positions, sliding_window=3), random_ids(1, 12)
    changed = ids.clone()
    changed[0, 2] = (changed[0, 2] + 1) % 31
    moved = (model(ids).logits - model(changed).logits)[0].abs().amax(-1)
    assert moved[2:7].gt(1e-5).all()
    assert moved[7:].max() == 0
    cache = KVCache(model.config, max_len=12)
    with torch.no_grad():
        pieces = [model(chunk, cache=cache).logits for chunk in ids.split([5, 1, 6], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(ids).logits, atol=1e-4, rtol=1e-4)


def test_a_mask_takes_the_place_of_the_causal_rule():
    """A prefix that still hides its own future, or a mask that forgets padding."""
    model, ids = small_lm(positions="rope"), random_ids(2, 8)
    mask = prefix_mask(8, prefix_len=4)
    changed = ids.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 31
    moved = (model(ids, mask=mask).logits - model(changed, mask=mask).logits).abs().amax(-1)
    assert moved[:, 0].gt(1e-5).all()  # position 0 reads position 3, both in the prefix
    empty = prefix_mask(8, prefix_len=0)
    torch.testing.assert_close(model(ids, mask=empty).logits, model(ids).logits, atol=1e-4, rtol=1e-4)
    padded = F.pad(ids, (2, 0), value=7)
    real = torch.tensor([[0, 0] + [1] * 8] * 2)
    torch.testing.assert_close(
        model(padded, attention_mask=real, mask=prefix_mask(10, prefix_len=6)).logits[:, 2:],
        model(ids, mask=mask).logits,
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("overrides", [dict(positions="learned"), dict(positions="rope", scale_embeddings=True)])
def test_vectors_in_place_of_token_numbers(overrides):
    """Positions or the embedding scale forgotten when vectors are given."""
    model, ids = small_lm(**overrides), random_ids(2, 6)
    vectors = model.backbone.embeddings.tokens(ids)
    torch.testing.assert_close(model(inputs_embeds=vectors).logits, model(ids).logits)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(ids, inputs_embeds=vectors)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()


def test_scales_of_embeddings_and_logits():
    """A factor applied twice or to the wrong side."""
    plain, ids = small_lm(positions="none"), random_ids(1, 5)
    louder = DecoderLM(plain.config.replace(scale_embeddings=True))
    louder.load_state_dict(plain.state_dict())
    torch.testing.assert_close(
        louder(ids, need_hidden=True).hidden_states[0], plain(ids, need_hidden=True).hidden_states[0] * math.sqrt(24)
    )
    quieter = DecoderLM(plain.config.replace(logit_scale=0.25))
    quieter.load_state_dict(plain.state_dict())
    torch.testing.assert_close(quieter(ids).logits, plain(ids).logits / 4)


def test_a_modern_model_begins_as_the_identity():
    """Zero initialisation of the wrong matrices: the stream must leave the blocks as it entered, and still learn."""
    model = DecoderLM(TransformerConfig.modern(vocab_size=31, d_model=24, n_layers=2, n_heads=4))
    out = model(random_ids(2, 6), need_hidden=True)
    assert torch.equal(out.hidden_states[0], out.hidden_states[-1])
    out.logits.square().sum().backward()
    assert model.backbone.blocks[0].attention.o_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("positions", POSITIONS)
def test_eager_model_equals_sdpa_model(positions):
    """A path of the model that only one backend sees."""
    model, ids = small_lm(positions=positions), random_ids(2, 8)
    fast, slow = model(ids), model(ids, need_weights=True, need_hidden=True)
    torch.testing.assert_close(fast.logits, slow.logits, atol=1e-4, rtol=1e-4)
    assert [w.shape for w in slow.attentions] == [(2, 4, 8, 8)] * 2
    assert len(slow.hidden_states) == 3
    assert fast.attentions is None


@torch.no_grad()
@pytest.mark.parametrize("parts", PARTS, ids=lambda p: p["positions"])
def test_a_model_can_be_cast_to_bfloat16(parts):
    """A part that answers in float32 and so breaks the next one, or whose rounding ruins what it computes."""
    model, ids = small_lm(**parts), random_ids(2, 8)
    exact = model(ids).logits
    model = model.bfloat16()
    for need_weights in (False, True):
        rounded = model(ids, need_weights=need_weights).logits
        assert rounded.dtype == torch.bfloat16
        assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("parts", PARTS, ids=lambda p: p["positions"])
def test_a_model_travels_by_pickle(parts):
    """An activation without a name, which no other process could look up."""
    model, ids = small_lm(**parts), random_ids(1, 5)
    assert torch.equal(pickle.loads(pickle.dumps(model))(ids).logits, model(ids).logits)


def test_without_positions_an_encoder_cannot_tell_order():
    """Order leaking in: permuted tokens must give permuted vectors, and a scheme of positions must break that."""
    ids, order = random_ids(1, 7), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    fully_masked = shake(Encoder(small_config(positions="none")))
    gap = fully_masked(ids[:, order]).last_hidden_state - fully_masked(ids).last_hidden_state[:, order]
    assert gap.abs().max() < 1e-5
    for scheme in POSITIONS[1:]:
        seeing = shake(Encoder(small_config(positions=scheme)))
        gap = seeing(ids[:, order]).last_hidden_state - seeing(ids).last_hidden_state[:, order]
        assert gap.abs().max() > 1e-3, scheme


def test_an_untrained_model_knows_nothing():
    """An initialisation far from uniform: the first loss must be ln V."""
    torch.manual_seed(3)
    model = DecoderLM(TransformerConfig.gpt2(vocab_size=200, d_model=64, n_layers=4, n_heads=4, max_seq_len=64))
    ids = torch.randint(200, (8, 64))
    loss = F.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(200), abs=0.05)


def test_published_sizes():
    """A part too many or too few: parameters of the published models, tied tables counted once."""
    with torch.device("meta"):
        assert DecoderLM(TransformerConfig.gpt2()).num_parameters() == 124_439_808
        assert DecoderLM(TransformerConfig.llama()).num_parameters() == 134_515_008
        assert Encoder(TransformerConfig.bert()).num_parameters() == 108_891_648


def test_learned_positions_end():
    """A sequence beyond the table must be refused by name; other schemes read on."""
    ids = random_ids(1, 40)
    with pytest.raises(ValueError, match=r"40 tokens.*max_seq_len=32"):
        small_lm(positions="learned")(ids)
    assert small_lm(positions="rope")(ids).logits.shape == (1, 40, 31)


@pytest.mark.parametrize("stranger", [31, -1])
def test_a_number_that_is_no_token_is_named(stranger):
    """Catches "index out of range in self", which says neither which number nor what would be in range."""
    ids = random_ids(2, 5)
    ids[1, 3] = stranger
    with pytest.raises(ValueError, match=rf"input_ids holds \[{stranger}\], but vocab_size=31 has tokens 0 … 30"):
        small_lm(positions="rope")(ids)


def test_a_text_is_a_batch_of_one():
    """Catches "tuple index out of range", the first error of everybody who forgets the batch."""
    unchecked = inspect.unwrap(Backbone.forward)  # as a reader calls it, without the tests' own check of shapes
    with pytest.raises(ValueError, match=r"input_ids has shape \(3,\): expected \[batch, tokens\]"):
        unchecked(small_lm().backbone, torch.tensor([1, 2, 3]))


def test_cache_refuses_what_it_cannot_hold():
    """A cache that overflows, mixes batches or swallows gradients in silence."""
    model = small_lm(positions="rope")
    with torch.no_grad(), pytest.raises(ValueError, match="room for 4"):
        model(random_ids(1, 5), cache=KVCache(model.config, max_len=4))
    with torch.no_grad(), pytest.raises(ValueError, match="batch of 2"):
        model(random_ids(1, 5), cache=KVCache(model.config, batch_size=2))
    with pytest.raises(RuntimeError, match="no_grad"):
        model(random_ids(1, 5), cache=KVCache(model.config))


def test_attention_mask_must_cover_the_cache():
    """A mask for the new tokens only, which would silently shift positions."""
    model = small_lm(positions="rope")
    cache = KVCache(model.config)
    with torch.no_grad():
        model(random_ids(1, 4), cache=cache)
        with pytest.raises(ValueError, match="all 6 positions"):
            model(
                random_ids(1, 2),
                attention_mask=torch.ones(1, 2, dtype=torch.long),
                cache=cache,
            )


def test_config_travels_as_json():
    """A value lost on the way to disk, the nested one above all."""
    scaling = RopeScaling(kind="yarn", factor=2.0, original_max_seq_len=64)
    config = TransformerConfig.llama(vocab_size=100, d_model=64, n_heads=4, rope_scaling=scaling)
    assert TransformerConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="n_embd"):
        TransformerConfig.from_dict({**json.loads(config.to_json()), "n_embd": 3})


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        (dict(attention_cap=0.05), "scores"),
        (dict(rotary_fraction=0.5), "positions"),
        (dict(nope_layers=(1,)), "positions"),
        (dict(sliding_window=3), "window"),
        (dict(sliding_window=3, full_layers=(1,)), "window"),
        (dict(logit_cap=0.5), "logits"),
    ],
)
def test_each_choice_is_heard(change, touched):
    """A setting that is accepted and ignored: with the same weights the logits must differ, and only where they can."""
    plain, ids = small_lm(positions="rope", d_head=8), random_ids(2, 9)
    other = DecoderLM(plain.config.replace(**change))
    other.load_state_dict(plain.state_dict())
    moved = (other(ids).logits - plain(ids).logits).abs().amax(-1)
    first = {"scores": 1, "positions": 1, "window": 3, "logits": 0}[touched]  # the first place that reads another
    assert moved[:, first:].min() > 1e-4
    assert moved[:, :first].numel() == 0 or moved[:, :first].max() < 1e-5


def test_windows_of_single_layers_and_their_base():
    """A window in the wrong layer: the first reaches back 3, the second everything; a base that all layers take."""
    model, ids = small_lm(**SANDWICH), random_ids(1, 12)
    changed = ids.clone()
    changed[0, 1] = (changed[0, 1] + 1) % 31

    def reach(order: tuple[int, ...], layer: int) -> int:
        own = DecoderLM(model.config.replace(full_layers=order))
        own.load_state_dict(model.state_dict())
        states = [own(x, need_hidden=True).hidden_states[layer + 1][0] for x in (ids, changed)]
        return int((states[0] - states[1]).abs().amax(-1).gt(1e-6).nonzero().max())

    assert (reach((1,), 0), reach((0,), 0)) == (3, 11)
    same = DecoderLM(model.config.replace(window_rope_theta=model.config.rope_theta))
    same.load_state_dict(model.state_dict())
    assert (same(ids).logits - model(ids).logits).abs().max() > 1e-3


def test_zero_centred_gains_begin_as_plain_ones():
    """A gain of 1 + 1 at the start, or of 0."""
    torch.manual_seed(0)
    plain = DecoderLM(small_config(norm="rmsnorm"))
    centred = DecoderLM(plain.config.replace(zero_centred_norm=True))
    assert not centred.backbone.final_norm.weight.any()
    norms = {name: torch.zeros_like(p) for name, p in plain.state_dict().items() if "norm" in name}
    centred.load_state_dict({**plain.state_dict(), **norms})
    ids = random_ids(1, 5)
    assert torch.equal(centred(ids).logits, plain(ids).logits)


def test_replace_derives_sizes_anew():
    """A feed-forward width left over from the old model width."""
    config = TransformerConfig.gpt2(d_model=128, n_heads=4)
    assert (config.d_ff, config.replace(d_model=256).d_ff) == (512, 1024)
    assert config.replace(d_ff=100).replace(d_model=256).d_ff == 100


def test_a_configuration_from_json_derives_its_sizes_like_the_one_it_was():
    """Catches four key heads, which nobody has given, in the way of three heads."""
    config = TransformerConfig.from_json(TransformerConfig.gpt2(d_model=128, n_heads=4).to_json())
    assert config.replace(d_model=96, n_heads=3) == TransformerConfig.gpt2(d_model=96, n_heads=3)
    given = dict(d_model=100, n_heads=12, d_head=8, n_kv_heads=3, d_ff=72, logit_scale=0.5)
    config = TransformerConfig.from_json(TransformerConfig.gpt2(**given).to_json())
    assert config.replace(n_heads=6) == TransformerConfig.gpt2(**{**given, "n_heads": 6})


def test_sizes_that_no_longer_follow_are_refused():
    """Catches a head of 64 numbers kept for another width by ``dataclasses.replace``, which takes it for given."""
    config = TransformerConfig.gpt2(d_model=128, n_heads=4, d_ff=100)
    with pytest.raises(ValueError, match=r"d_head=32 was derived from the old sizes: use config\.replace"):
        dataclasses.replace(config, d_model=96)
    other = dataclasses.replace(config, dropout=0.1)  # derives nothing, and is as good
    assert other == config.replace(dropout=0.1)
    assert other.replace(d_model=96).d_head == 24
    assert pickle.loads(pickle.dumps(other)).replace(d_model=96).d_head == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(d_model=100, n_heads=12), "d_model=100 is not divisible by n_heads=12"),
        (dict(n_heads=4, n_kv_heads=3), "n_heads=4 is not a multiple of n_kv_heads=3"),
        (dict(positions="rotary"), "positions='rotary'"),
        (dict(dropout=1.0), "dropout=1.0"),
        (dict(sliding_window=0), "sliding_window=0"),
        (dict(conv_width=0), "conv_width=0"),
        (dict(attention_scale=-1.0), "attention_scale=-1.0"),
        (dict(positions="t5", t5_buckets=256), "t5_buckets=256"),
        (dict(vocab_size=0), "vocab_size=0"),
        (dict(n_segments=-1), "n_segments=-1"),
        (dict(norm_eps=0.0), "norm_eps=0.0 must be positive"),
        (dict(rope_theta=-1.0), "rope_theta=-1.0"),
        (dict(logit_scale=math.nan), "logit_scale=nan"),
        (dict(rope_theta="1e4"), "rope_theta='1e4' must be positive"),
        (dict(attention_scale="0.1"), "attention_scale='0.1' must be positive"),
        (dict(dropout=None), "dropout=None"),
        (dict(n_segments="2"), "n_segments='2'"),
        (dict(positions="t5", t5_buckets=32.0), "t5_buckets=32.0"),
        (dict(d_model=12, n_heads=4, positions="rope"), "d_head=3"),
        (dict(positions="rope", rotary_fraction=1.5), "rotary_fraction=1.5"),
        (dict(positions="rope", rotary_fraction="half"), "rotary_fraction='half'"),
        (dict(positions="rope", d_head=6, rotary_fraction=0.5), "rotary_fraction=0.5 of d_head=6 is 3"),
        (dict(rotary_fraction=0.5), "rotary_fraction needs positions='rope'"),
        (dict(nope_layers=(0,)), "nope_layers needs positions='rope'"),
        (dict(positions="rope", nope_layers=(12,)), r"nope_layers=\(12,\): the layers are 0 to 11"),
        (dict(positions="rope", nope_layers=(1, 0)), "name each layer once, in order"),
        (dict(positions="rope", nope_layers=(0.5,)), "give a tuple of layers"),
        (dict(positions="rope", nope_layers=tuple(range(12))), "give positions='none'"),
        (dict(full_layers=(1,)), "exceptions from sliding_window, which is None"),
        (dict(sliding_window=4, full_layers=tuple(range(12))), "give sliding_window=None"),
        (dict(sliding_window=4, full_layers=3), "full_layers=3: give a tuple"),
        (
            dict(positions="rope", sliding_window=4, window_rope_theta=10.0),
            "of which there are none",
        ),
        (dict(sliding_window=4, full_layers=(1,), window_rope_theta=10.0), "window_rope_theta needs positions='rope'"),
        (dict(attention_cap=0), "attention_cap=0 must be positive"),
        (dict(logit_cap=-3.0), "logit_cap=-3.0 must be positive"),
        (dict(logit_cap="30"), "logit_cap='30' must be positive"),
        (dict(qk_norm_width="all"), "qk_norm_width='all' needs qk_norm=True"),
        (dict(qk_norm=True, qk_norm_width="both"), "qk_norm_width='both'"),
        (dict(norm_position="around"), "norm_position='around' is not one of 'pre', 'post', 'sandwich', 'output'"),
        (dict(zero_centred_norm=True), "zero_centred_norm=True is for norm='rmsnorm'"),
        (dict(zero_centred_norm=1, norm="rmsnorm"), "zero_centred_norm=1 is neither True nor False"),
        (dict(qkv_bias="yes"), "qkv_bias='yes'"),
        (dict(positions="rope", rope_scaling={"kind": "ntk"}), r"rope_scaling=\{'kind': 'ntk'\}: give a RopeScaling"),
        (
            dict(rope_scaling=RopeScaling(kind="ntk", factor=2, original_max_seq_len=8)),
            "needs positions='rope'",
        ),
    ],
)
def test_impossible_configs_are_refused_by_name(changes, message):
    """A size or choice that cannot work, accepted until it fails somewhere else; "'<' not supported" in its stead."""
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**{**dict(vocab_size=10), **changes})


def test_an_encoder_refuses_what_only_a_decoder_has():
    """Settings ignored in silence: a window that looks back, segments that do not exist, half of two stacks."""
    for model in (Encoder, DecoderLM, TwoStreamLM):
        with pytest.raises(ValueError, match="n_decoder_layers=3"):
            model(small_config(n_decoder_layers=3))
    with torch.no_grad(), pytest.raises(ValueError, match="an encoder also reads what comes after"):
        Encoder(small_config())(random_ids(1, 4), cache=KVCache(small_config()))
    with pytest.raises(ValueError, match="memory_mask was given without"):
        Encoder(small_config())(random_ids(1, 4), memory_mask=torch.ones(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="sliding_window=4"):
        Encoder(small_config(sliding_window=4))
    with pytest.raises(ValueError, match="n_segments"):
        Encoder(small_config())(random_ids(1, 4), segment_ids=torch.zeros(1, 4, dtype=torch.long))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(kind="yarm"),
        dict(factor=0.5),
        dict(factor=math.nan),
        dict(factor=math.inf),
        dict(factor="2"),
        dict(original_max_seq_len=8.5),
    ],
)
def test_a_scaling_that_cannot_be_is_refused_by_name(wrong):
    """A kind that is none, taken for the last of them; a factor given the wrong way round; half a position."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r}")):
        RopeScaling(**{**dict(kind="linear", factor=2.0, original_max_seq_len=8), **wrong})
