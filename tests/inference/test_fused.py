"""The decoder in fewer operations computes what the decoder computes."""

import dataclasses

import pytest
import torch
from torch import nn

from llmbook.adaptation import add_lora
from llmbook.compression import Int8Linear, quantise_model
from llmbook.inference import FusedDecoder, complete, fuse, generate
from llmbook.inference.fused import NEEDED, wide_norm
from llmbook.model import DecoderLM, Encoder, KVCache, RopeScaling, TransformerConfig, attend
from llmbook.text import CharTokenizer
from tests.model.helpers import shake


def llama(**overrides) -> DecoderLM:
    """Grouped queries and heads wider than d_model / n_heads, so that a wrong split of the stack shows."""
    sizes = dict(vocab_size=32, max_seq_len=32, d_model=32, n_layers=2, n_heads=6, n_kv_heads=2, d_head=8, d_ff=48)
    return shake(DecoderLM(TransformerConfig.llama(**{**sizes, **overrides})))


def ids(batch: int = 2, length: int = 9) -> torch.Tensor:
    return torch.randint(32, (batch, length), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"feed_forward": "geglu", "tie_embeddings": False, "n_kv_heads": 6},
        {"attention_scale": 0.7, "rope_scaling": RopeScaling(kind="yarn", factor=4, original_max_seq_len=16)},
    ],
)
def test_fused_is_the_model(overrides):
    """Catches matrices stacked or cut in the wrong order, a rotation with the sign the other way round, a gain that is
    not repeated, gate and up swapped, and a scale that is not handed on."""
    model = llama(**overrides)
    expected, got = model(ids()), fuse(model)(ids())
    torch.testing.assert_close(got.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.last_hidden_state, expected.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_in_pieces_with_a_cache_too():
    """Catches a position that starts anew with each call, and a cache that is not advanced."""
    model = llama()
    fused, cache = fuse(model), KVCache(model.config, batch_size=2, max_len=9)
    with torch.no_grad():
        pieces = [fused(piece, cache=cache).logits for piece in ids().split([4, 1, 1, 3], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids()).logits, atol=1e-4, rtol=1e-4)


def test_it_writes_the_same_text():
    """Catches a face that ``generate`` cannot use, or a mask for texts that need none."""
    model, tokenizer = llama(), CharTokenizer.train("".join(map(chr, range(65, 97))))
    both = (complete(m, tokenizer, ["AB", "CD"], max_new_tokens=9, temperature=0) for m in (model, fuse(model)))
    assert next(both) == next(both)
    prompt = ids(1, 4)
    assert torch.equal(
        generate(fuse(model), prompt, max_new_tokens=12, temperature=0),
        generate(model, prompt, max_new_tokens=12, temperature=0),
    )


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_a_layer_norm_of_twice_the_width_is_an_rms_norm(size):
    """Catches the variance divided by n − 1 or by the wrong n, and ε added in another place: at 10⁻³ it decides."""
    reference = nn.RMSNorm(16, eps=1e-6)
    gain, x = torch.randn(16), torch.randn(2, 3, 16) * size
    with torch.no_grad():
        reference.weight.copy_(gain)
    torch.testing.assert_close(wide_norm(x, gain.repeat(2), 1e-6), reference(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_one_query_reads_shared_keys_without_copies(n_kv_heads, monkeypatch):
    """Catches heads handed to the wrong group where one new token reads keys that several heads share, and a copy of
    the keys for each of these heads after all, which only the clock would show."""
    q, k, v = torch.randn(2, 6, 1, 8), torch.randn(2, n_kv_heads, 5, 8), torch.randn(2, n_kv_heads, 5, 4)
    formula, _ = attend(q, k, v, causal=True, backend="eager")
    monkeypatch.setattr(torch.Tensor, "repeat_interleave", lambda *_, **__: pytest.fail("the keys were copied"))
    fast, _ = attend(q, k, v, causal=True)
    torch.testing.assert_close(fast, formula, atol=1e-5, rtol=1e-5)


def test_quantising_the_stack_is_stacking_the_quantised():
    """Catches a scale shared by queries, keys and values: each output keeps its own, so nothing is lost by fusing."""
    model, fused = llama(), fuse(llama())
    quantise_model(model, bits=8)
    quantise_model(fused, bits=8)
    attention = model.backbone.blocks[1].attention
    stacked = torch.cat([layer.codes for layer in (attention.q_proj, attention.k_proj, attention.v_proj)])
    assert torch.equal(fused.blocks[1].qkv_proj.codes, stacked)
    torch.testing.assert_close(fused(ids()).logits, model(ids()).logits, atol=1e-4, rtol=1e-4)


def test_a_quantised_fused_model_loads_back():
    """Catches parts missing from the state, and angles lost with the parameter-free rotary layer."""
    saved = fuse(llama())
    quantise_model(saved, bits=8, skip=())
    loaded = FusedDecoder(saved.config).eval()
    quantise_model(loaded, bits=8, skip=())
    loaded.load_state_dict(saved.state_dict())
    assert isinstance(loaded.lm_head, Int8Linear)
    assert torch.equal(loaded(ids()).logits, saved(ids()).logits)


def test_the_token_table_is_shared_and_the_rest_copied():
    """Catches the largest matrix held twice, and a model changed by quantising its fused copy."""
    model = llama()
    fused = fuse(model)
    assert fused.tokens.weight is model.backbone.embeddings.tokens.weight
    assert fused.lm_head.weight is fused.tokens.weight
    before = model(ids()).logits
    with torch.no_grad():
        for block in fused.blocks:
            for parameter in block.parameters():
                parameter.zero_()
    assert torch.equal(model(ids()).logits, before)


def test_every_setting_is_followed_or_refused():
    """A new choice of the Transformer that this road would ignore."""
    followed = (
        "vocab_size max_seq_len d_model n_layers n_heads n_kv_heads d_head d_ff rope_theta rope_scaling norm_eps "
        "attention_scale feed_forward tie_embeddings attention_backend"
    )
    of_other_positions, of_training = {"t5_buckets", "t5_max_distance"}, {"dropout", "init_std", "zero_init"}
    known = {*followed.split(), *NEEDED, *of_other_positions, *of_training}
    assert {field.name for field in dataclasses.fields(TransformerConfig)} == known


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"positions": "alibi"}, "positions='alibi'"),
        ({"norm": "layernorm"}, "norm='layernorm'"),
        ({"norm_position": "post"}, "norm_position='post'"),
        ({"bias": True}, "bias=True"),
        ({"qk_norm": True}, "qk_norm=True"),
        ({"sliding_window": 4}, "sliding_window=4"),
        ({"conv_width": 4}, "conv_width=4"),
        ({"scale_embeddings": True}, "scale_embeddings=True"),
        ({"logit_scale": 0.5}, "logit_scale=0.5"),
        ({"embedding_norm": True}, "embedding_norm=True"),
        ({"n_segments": 2}, "n_segments=2"),
        ({"feed_forward": "gelu"}, "feed_forward='gelu'"),
        ({"qkv_bias": True}, "qkv_bias=True"),
        ({"norm_position": "sandwich"}, "norm_position='sandwich'"),
        ({"zero_centred_norm": True}, "zero_centred_norm=True"),
        ({"rotary_fraction": 0.5}, "rotary_fraction=0.5"),
        ({"nope_layers": (0,)}, r"nope_layers=\(0,\)"),
        ({"attention_cap": 5.0}, "attention_cap=5.0"),
        ({"logit_cap": 5.0}, "logit_cap=5.0"),
    ],
)
def test_what_it_leaves_out_is_refused_by_name(overrides, name):
    """Catches a part of the architecture dropped in silence."""
    with pytest.raises(ValueError, match=name):
        fuse(llama(**overrides))


def test_an_adapted_or_quantised_model_is_refused_by_name():
    """Catches a correction left behind, and an attribute error in place of a word."""

    def head_only(model):
        add_lora(model, target_modules="lm_head")

    for change, name in ((add_lora, "LoRALinear"), (head_only, "LoRALinear"), (quantise_model, "Int8Linear")):
        model = llama()
        change(model)
        with pytest.raises(ValueError, match=f"{name} has no plain weight"):
            fuse(model)


def test_what_is_no_decoder_is_refused_by_name():
    """Catches an attribute error in place of a word, and an encoder–decoder's settings read as one stack's."""
    with pytest.raises(ValueError, match="Encoder cannot be fused: give a DecoderLM"):
        fuse(Encoder(llama().config))
    with pytest.raises(ValueError, match="n_decoder_layers=2"):
        FusedDecoder(llama().config.replace(n_decoder_layers=2))


def test_a_number_that_is_no_token_is_named():
    """Catches torch's "index out of range in self", which says neither which number nor what the range is."""
    model = llama()
    strange = torch.tensor([[0, model.config.vocab_size + 7]])
    with pytest.raises(ValueError, match=rf"input_ids holds \[{model.config.vocab_size + 7}\], but vocab_size="):
        fuse(model)(strange)


def test_padding_is_refused():
    """Catches padding read as text."""
    with pytest.raises(ValueError, match="without padding"):
        fuse(llama())(ids(), attention_mask=torch.ones(2, 9))
