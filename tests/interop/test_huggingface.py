"""The same weights under both names give the same numbers: outputs and gradients, at a random start of std 0.6.

At 0.2 a tanh approximation of GELU in place of GELU changes GPT-2 by less than the tolerance.
"""

from functools import partial

import pytest
import torch
import transformers
from torch import nn

from llmbook.interop import FAMILIES, config_from_huggingface, config_to_huggingface, from_huggingface, to_huggingface
from llmbook.model import (
    DecoderLM,
    Encoder,
    EncoderDecoderLM,
    KVCache,
    MaskedLM,
    SequenceClassifier,
    TokenClassifier,
    TransformerConfig,
)
from tests.model.helpers import random_ids, shake

BERT = transformers.BertConfig(
    vocab_size=31, max_position_embeddings=32, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=40, num_labels=5,
)  # fmt: skip
T5 = partial(
    transformers.T5Config, vocab_size=31, d_model=24, d_kv=5, d_ff=40, num_layers=3, num_decoder_layers=2, num_heads=4,
    relative_attention_num_buckets=8, relative_attention_max_distance=16,
)  # fmt: skip
LLAMA = dict(
    vocab_size=31, max_position_embeddings=32, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=40, pad_token_id=None, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
KINDS_OF_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA = dict(head_dim=10, query_pre_attn_scalar=7, sliding_window=5, layer_types=KINDS_OF_LAYERS)
DISTILBERT = transformers.DistilBertConfig(
    vocab_size=31, max_position_embeddings=32, dim=24, n_layers=3, n_heads=4, hidden_dim=40
)
ROBERTA = dict(
    vocab_size=31, max_position_embeddings=34, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=40, type_vocab_size=1, pad_token_id=1,
)  # fmt: skip
CONFIGS = {
    "gpt2": transformers.GPT2Config(vocab_size=31, n_positions=32, n_embd=24, n_layer=3, n_head=4),
    "llama": transformers.LlamaConfig(**LLAMA),
    "mistral": transformers.MistralConfig(**LLAMA, sliding_window=5, head_dim=8),
    "qwen2": transformers.Qwen2Config(**LLAMA, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": transformers.Qwen3Config(**LLAMA, head_dim=10),
    "smollm3": transformers.SmolLM3Config(**LLAMA, no_rope_layers=[1, 0, 1]),
    "olmo2": transformers.Olmo2Config(**LLAMA),
    "phi3": transformers.Phi3Config(
        **{**LLAMA, "hidden_size": 32}, sliding_window=5, rope_parameters={"partial_rotary_factor": 0.75}
    ),
    "gemma": transformers.GemmaConfig(**LLAMA, head_dim=10),
    "gemma2": transformers.Gemma2Config(
        **LLAMA, **GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, attn_implementation="eager"
    ),
    "gemma3_text": transformers.Gemma3TextConfig(
        **LLAMA, **GEMMA,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
        },
    ),
    "bert": BERT,
    "bert-masked-lm": BERT,
    "bert-classifier": BERT,
    "bert-token-classifier": BERT,
    "roberta": transformers.RobertaConfig(**ROBERTA),
    "roberta-masked-lm": transformers.RobertaConfig(**ROBERTA),
    "xlm-roberta": transformers.XLMRobertaConfig(**ROBERTA),
    "xlm-roberta-masked-lm": transformers.XLMRobertaConfig(**ROBERTA),
    "distilbert": DISTILBERT,
    "distilbert-masked-lm": DISTILBERT,
    "t5": T5(),
    "t5-gated": T5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}  # fmt: skip
DEPTH = {family: dict(n_layers=3, n_decoder_layers=2 if "t5" in family else None) for family in CONFIGS}


def build(family: str, config: TransformerConfig) -> nn.Module:
    """Our model of this kind."""
    match FAMILIES[family].model:
        case "SequenceClassifier":
            return SequenceClassifier(Encoder(config), n_labels=5, pooling="cls")
        case "TokenClassifier":
            return TokenClassifier(Encoder(config), n_labels=5)
    plain = (DecoderLM, Encoder, EncoderDecoderLM, MaskedLM)
    return next(cls for cls in plain if cls.__name__ == FAMILIES[family].model)(config)


def pair(family: str):
    """Their model with random weights, and ours with the same."""
    theirs = getattr(transformers, FAMILIES[family].architecture)(CONFIGS[family])
    if family == "t5-gated":  # transformers ties what version 1.1 does not
        theirs.lm_head.weight = nn.Parameter(torch.empty_like(theirs.lm_head.weight))
    shake(theirs, 0.6)
    ours = build(family, config_from_huggingface(CONFIGS[family].to_dict())).eval()
    ours.load_state_dict(under_our_names(theirs.state_dict(), family))
    return ours, theirs


def under_our_names(weights: dict[str, torch.Tensor], family: str) -> dict[str, torch.Tensor]:
    config = config_from_huggingface(CONFIGS[family].to_dict())
    return from_huggingface(weights, family, **DEPTH[family], config=config)


def run(model, family: str, ids, **keywords):
    """What the model is for: logits, or the hidden states of a bare encoder."""
    if "roberta" in family:
        ids = ids.masked_fill(ids == 1, 2)  # 1 is padding wherever it stands
    if "t5" in family:
        keywords["decoder_input_ids"] = ids.flip(1)[:, :7]
    out = model(ids, **keywords)
    return out.last_hidden_state if getattr(out, "logits", None) is None else out.logits


def test_every_family_is_tried():
    """A new table of names without a test."""
    assert set(CONFIGS) == set(FAMILIES)


@pytest.mark.parametrize("family", CONFIGS)
def test_same_outputs_and_gradients(family):
    """Any difference in architecture, layout or naming, in a forward or a backward pass."""
    ours, theirs = pair(family)
    ids = random_ids(2, 12)
    a, b = run(ours, family, ids), run(theirs, family, ids)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    ours, theirs = ours.double(), theirs.double()  # scores this large leave some gradients small beside float32's error
    weight = torch.randn_like(b).double()  # a loss that treats no two numbers alike
    (run(ours, family, ids) * weight).sum().backward()
    (run(theirs, family, ids) * weight).sum().backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in theirs.named_parameters()}
    expected = under_our_names(gradients, family)
    for name, parameter in ours.named_parameters():
        largest = expected[name].abs().max().item()
        if (
            name.endswith("k_proj.bias") and ours.config.positions != "rope"
        ):  # adds the same to all scores of a query: softmax does not see it
            assert max(largest, parameter.grad.abs().max().item()) < 1e-6, name
            continue
        assert largest > 1e-4, f"{name}: a gradient of nothing is equal to any other"
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4 * largest, rtol=0, msg=name)


@pytest.mark.parametrize("family", CONFIGS)
def test_padding_is_ignored_alike(family):
    """A padding mask with another meaning than theirs, or one that cross-attention does not get."""
    ours, theirs = pair(family)
    ids, mask = random_ids(2, 9), torch.ones(2, 9, dtype=torch.long)
    extra = {}
    if FAMILIES[family].model == "DecoderLM":
        mask[0, :3] = 0
        extra = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    else:
        mask[0, -3:] = 0
    a = run(ours, family, ids, attention_mask=mask)
    b = run(theirs, family, ids, attention_mask=mask, **extra)
    real = mask.bool() if a.shape[:2] == mask.shape else ...
    torch.testing.assert_close(a[real], b[real], atol=1e-4, rtol=0)
    whole = run(ours, family, ids)
    assert not torch.allclose(a[real], whole[real], atol=1e-3)


def test_bert_segments():
    """Segment vectors left out, or both sentences given the first."""
    ours, theirs = pair("bert-masked-lm")
    ids, segments = random_ids(2, 9), torch.tensor([[0] * 4 + [1] * 5]).expand(2, 9)
    a, b = ours(ids, segment_ids=segments).logits, theirs(ids, token_type_ids=segments).logits
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert not torch.allclose(a, ours(ids).logits, atol=1e-3)


@pytest.mark.parametrize("family", ["t5", "t5-gated"])
@torch.no_grad()
def test_t5_writes_with_a_cache_as_theirs_does(family):
    """A relative bias that starts again at every step, or memory read by another mask than at the first."""
    ours, theirs = pair(family)
    ids, mask, written = random_ids(2, 9), torch.ones(2, 9, dtype=torch.long), random_ids(2, 8).flip(0)
    mask[1, 5:] = 0
    memory = ours.encode(ids, mask)
    torch.testing.assert_close(
        memory[mask.bool()], theirs.encoder(ids, attention_mask=mask).last_hidden_state[mask.bool()],
        atol=1e-4, rtol=0,
    )  # fmt: skip
    cache, theirs_cache, logits = KVCache(ours.decoder.config, batch_size=2, max_len=8), None, []
    for new in written.split([3, 1, 4], dim=1):
        a = ours(decoder_input_ids=new, memory=memory, attention_mask=mask, cache=cache).logits
        out = theirs(
            encoder_outputs=(memory,), attention_mask=mask, decoder_input_ids=new, past_key_values=theirs_cache,
            use_cache=True,
        )  # fmt: skip
        theirs_cache = out.past_key_values
        torch.testing.assert_close(a, out.logits, atol=1e-4, rtol=0)
        logits.append(a)
    whole = theirs(ids, attention_mask=mask, decoder_input_ids=written).logits
    torch.testing.assert_close(torch.cat(logits, dim=1), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", CONFIGS)
def test_there_and_back(family):
    """A name or a transposition that is not undone; a tensor of theirs that a file of ours would lack."""
    ours, theirs = pair(family)
    weights = theirs.state_dict()
    back = to_huggingface(ours.state_dict(), family, **DEPTH[family])
    for name, tensor in back.items():
        first = 2 if "roberta" in family and "position_embeddings" in name else 0  # rows that no token takes
        assert torch.equal(tensor[first:], weights[name][first:]), name
    assert not {n for n in weights.keys() - back.keys() if "pooler" not in n and "position_ids" not in n}


@pytest.mark.parametrize("family", CONFIGS)
def test_settings_there_and_back(family):
    """A size or a choice that one direction forgets: their class made from our settings computes the same."""
    ours, theirs = pair(family)
    values = config_to_huggingface(ours.config, family)
    assert config_from_huggingface(values) == ours.config
    again = getattr(transformers, values["architectures"][0])(type(CONFIGS[family])(**values, num_labels=5))
    if family == "t5-gated":
        again.lm_head.weight = nn.Parameter(again.lm_head.weight.detach().clone())
    again.load_state_dict(theirs.state_dict())
    ids = random_ids(2, 9)
    torch.testing.assert_close(run(again.eval(), family, ids), run(theirs, family, ids))


@pytest.mark.parametrize(
    ("family", "left_out"),
    [
        ("gpt2", ["lm_head.weight"]),
        ("t5", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"]),
        ("bert-masked-lm", ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]),
        ("roberta-masked-lm", ["lm_head.decoder.weight", "lm_head.decoder.bias"]),
        ("distilbert-masked-lm", ["vocab_projector.weight"]),
        ("gemma2", ["lm_head.weight"]),
    ],
)
def test_tied_tensors_may_be_left_out(family, left_out):
    """A published file, which stores a shared tensor once, refused or loaded with a random head."""
    ours, theirs = pair(family)
    weights = {name: tensor for name, tensor in theirs.state_dict().items() if name not in left_out}
    found = under_our_names(weights, family)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_a_config_that_ties_nothing_is_read_as_untied():
    """Version 1.1's own projection overwriting the token table: newer files say it by another name."""
    values = config_to_huggingface(pair("t5-gated")[0].config, "t5-gated")
    newer = {**values, "tie_word_embeddings": True, "scale_decoder_outputs": False}
    config = config_from_huggingface(newer)
    assert (config.tie_embeddings, config.logit_scale) == (False, 1.0)


def test_foreign_weights_are_refused_by_name():
    """A checkpoint of another model loaded in part."""
    ours, theirs = pair("gpt2")
    with pytest.raises(ValueError, match=r"not the weights of a LlamaForCausalLM with 3 layers.*model\.norm"):
        from_huggingface(theirs.state_dict(), "llama", n_layers=3)
    with pytest.raises(
        ValueError, match=r"no LlamaForCausalLM with 3 layers: missing \[\'backbone.blocks.0.feed_forward.gate"
    ):
        to_huggingface(ours.state_dict(), "llama", n_layers=3)
    with pytest.raises(ValueError, match=r"unknown \['backbone.blocks.2"):
        to_huggingface(ours.state_dict(), "gpt2", n_layers=2)
    with pytest.raises(ValueError, match="no names for the architecture 'mamba'; known are gpt2, llama, mistral"):
        from_huggingface(theirs.state_dict(), "mamba", n_layers=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "mambo"}, "'mambo'; known are gpt2, llama, mistral, qwen2"),
        ({"model_type": "mamba"}, "'mamba', which has a state space in place of attention; known are"),
        ({"model_type": "bert", "hidden_act": "relu"}, "bert with hidden_act='relu' is not supported, only 'gelu'"),
        ({"model_type": "bert", "is_decoder": True}, "bert with is_decoder=True is not supported, only False"),
        ({"model_type": "gpt2", "scale_attn_weights": False}, "gpt2 with scale_attn_weights=False"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias=True"),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "su"}}, "kind 'su' are not read"),
        ({"model_type": "gpt2"}, "gpt2 configuration has no 'vocab_size'"),
        ({"model_type": "t5"}, "t5 configuration has no 'num_layers'"),
        ({"model_type": "t5", "feed_forward_proj": "gated-relu"}, "feed_forward_proj='gated-relu'"),
    ],
)
def test_foreign_settings_are_refused_by_name(values, message):
    """A model that would load and compute something else, and Python's KeyError for a setting that is missing."""
    with pytest.raises(ValueError, match=message):
        config_from_huggingface(values)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("gpt2", dict(positions="rope", norm="rmsnorm"), "gpt2 has no setting for positions='rope', norm='rmsnorm'"),
        ("gpt2", dict(n_kv_heads=2), "n_kv_heads=2"),
        ("llama", dict(), "positions='learned'"),
        ("t5", dict(positions="t5", tie_embeddings=False, logit_scale=0.5), "logit_scale=0.5"),
    ],
)
def test_settings_theirs_cannot_have_are_refused_by_name(family, changes, message):
    """A config.json beside our weights that makes another model of them."""
    config = TransformerConfig.gpt2(vocab_size=31, d_model=24, n_layers=3, n_heads=4, **changes)
    with pytest.raises(ValueError, match=message):
        config_to_huggingface(config, family)


def respelled(family: str, weights: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The same weights as files on the Hub spell them: what is other in each changes nothing that is computed."""
    zeros = torch.zeros(1, 1, 4, 4)
    match family:
        case "gpt2":
            bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
            masks = {f"h.{i}.attn.{name}": zeros for i in range(3) for name in ("bias", "masked_bias")}
            del bare["lm_head.weight"]
            return {"without its prefix": bare, "with its masks": bare | masks, "untouched": weights}
        case _ if FAMILIES[family].prefix == "model.":
            angles = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(3) for i in range(3)}
            bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
            return {"with its angles": weights | angles, "without its prefix": bare}
        case "bert" | "bert-masked-lm" | "bert-classifier" | "bert-token-classifier":
            bare = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
            full = {name if name.startswith(("cls.", "classifier.")) else f"bert.{name}": t for name, t in bare.items()}
            old = {
                name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
                for name, tensor in full.items()
            }
            heads = {"cls.seq_relationship.weight": zeros, "cls.seq_relationship.bias": zeros}
            pooler = {"bert.pooler.dense.weight": zeros, "bert.pooler.dense.bias": zeros} | old
            return {"bare": bare, "prefixed": full, "from TensorFlow": old, "of pre-training": heads | pooler}
        case _ if "roberta" in family:
            bare = {name.removeprefix("roberta."): tensor for name, tensor in weights.items()}
            full = {name if name.startswith("lm_head") else f"roberta.{name}": t for name, t in bare.items()}
            return {"bare": bare, "with a pooler": full | {"roberta.pooler.dense.weight": zeros}}
        case "distilbert" | "distilbert-masked-lm":
            bare = {name.removeprefix("distilbert."): tensor for name, tensor in weights.items()}
            full = {name if name.startswith("vocab_") else f"distilbert.{name}": t for name, t in bare.items()}
            return {"bare": bare, "of another head": full | {"pre_classifier.weight": zeros}}
        case "t5" | "t5-gated":
            extra = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": zeros}
            without = {name: tensor for name, tensor in weights.items() if name != "shared.weight"}
            return {"with an unused bias": weights | extra, "without shared": without}


@pytest.mark.parametrize("family", CONFIGS)
def test_names_that_change_nothing_are_read(family):
    """Famous files refused: GPT-2's without its prefix and with its masks, BERT's with gamma and beta, Llama's with its
    angles, T5's with a bias it never used."""
    ours, theirs = pair(family)
    expected = ours.state_dict()
    for spelling, weights in respelled(family, theirs.state_dict()).items():
        got = under_our_names(weights, family)
        assert got.keys() == expected.keys(), spelling
        assert all(torch.equal(got[name], expected[name]) for name in got), spelling


def test_two_tensors_that_are_one_here_are_not_merged():
    """A file whose two biases of one projection differ, of which one would have been dropped."""
    _, theirs = pair("bert-masked-lm")
    weights = theirs.state_dict()
    weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"] + 1
    with pytest.raises(ValueError, match=r"cls\.predictions.*bias differs from another tensor"):
        from_huggingface(weights, "bert-masked-lm", n_layers=3)


def test_a_tensor_under_two_spellings_is_refused():
    """One of two that would have won by its place in the file."""
    _, theirs = pair("llama")
    weights = theirs.state_dict()
    weights["norm.weight"] = weights["model.norm.weight"] + 1
    with pytest.raises(ValueError, match=r"model\.norm\.weight under two names"):
        from_huggingface(weights, "llama", n_layers=3)


def test_a_depth_that_cannot_be_is_refused_at_once():
    """A damaged configuration of a thousand million layers, for each of which names would be made."""
    with pytest.raises(ValueError, match="1000000000 layers cannot lie in 1 tensors"):
        from_huggingface({"norm.weight": torch.ones(1)}, "llama", n_layers=10**9)


ROPES = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "linear, as it was spelled": {"type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn, spelled out": {
        "type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1,
    },
    "default": {"rope_type": "default"},
}  # fmt: skip


@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("rope", ROPES)
def test_stretched_positions_are_read_in_every_spelling(rope, place):
    """``{"type": "linear"}`` dropped in silence: logits that are wrong by 4 to 14, and no error."""
    sizes = {**CONFIGS["llama"].to_dict(), "head_dim": 12, "hidden_size": 48, "max_position_embeddings": 64}
    del sizes["rope_parameters"]
    values = {**sizes, "rope_theta": 100.0, place: {**ROPES[rope], "rope_theta": 100.0}}
    theirs = shake(transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)), 0.3)
    config = config_from_huggingface(values)
    ours = DecoderLM(config).eval()
    ours.load_state_dict(from_huggingface(theirs.state_dict(), "llama", n_layers=3))
    ids = random_ids(2, 60)
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-4, rtol=0)
    assert (config.rope_scaling is None) == (rope == "default")
    assert config_from_huggingface(config_to_huggingface(config, "llama")) == config


@pytest.mark.parametrize(
    ("rope", "says"),
    [
        ({"type": "dynamic", "factor": 2.0}, "'dynamic' are not read"),
        ({"rope_type": "longrope", "short_factor": [1.0]}, "'longrope' are not read"),
        ({"rope_type": "yarn", "type": "linear", "factor": 2.0}, "'linear' and 'yarn'"),
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 16}, "beta_fast=16"),
        ({"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5}, "attention_factor=1.5"),
        ({"rope_type": "linear"}, "no 'factor'"),
        ({"rope_type": "llama3", "factor": 8.0}, "no 'low_freq_factor'"),
        ({"rope_type": "linear", "factor": "two"}, "factor='two'"),
        ("linear", "no object"),
    ],
)
def test_stretching_that_is_not_computed_is_refused(rope, says):
    """A kind or a number that is read by halves."""
    values = CONFIGS["llama"].to_dict() | {"rope_scaling": rope, "rope_parameters": None}
    with pytest.raises(ValueError, match=says):
        config_from_huggingface(values)
