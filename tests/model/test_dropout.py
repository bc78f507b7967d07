"""Dropout where the configuration says it is: the right share of zeros, the rest enlarged, and none in use.

Each part is made to give nothing but ones, so that what comes out of it is the pattern of dropout itself.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from llmbook.model import DecoderLM, Encoder, SequenceClassifier, TokenClassifier, TransformerConfig, attend
from llmbook.model.embeddings import Embeddings
from llmbook.model.layers import Block, make_attention
from tests.model.helpers import random_ids, small_config, small_lm

P = 0.3


def is_dropout(kept: Tensor) -> None:
    """Zeros in a share of P (within five standard deviations) and 1 / (1 - P) everywhere else."""
    dropped = kept == 0
    torch.testing.assert_close(kept[~dropped], torch.full_like(kept[~dropped], 1 / (1 - P)))
    assert abs(dropped.sum() - kept.numel() * P) < 5 * math.sqrt(kept.numel() * P * (1 - P))


def config(**overrides) -> TransformerConfig:
    return TransformerConfig(vocab_size=7, max_seq_len=64, d_model=64, n_heads=1, n_layers=1, dropout=P, **overrides)


def constant(layer: nn.Module, value: float) -> None:
    """A linear layer that answers ``value`` whatever it reads."""
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)


def test_the_embeddings_drop():
    """A dial accepted and ignored, numbers dropped but not made up for, dropout that goes on in use."""
    embeddings = Embeddings(config(positions="none"))
    nn.init.ones_(embeddings.tokens.weight)
    ids = random_ids(8, 64, vocab_size=7)
    positions = torch.arange(64).expand(8, 64)
    is_dropout(embeddings(ids, positions))
    assert torch.equal(embeddings.eval()(ids, positions), torch.ones(8, 64, 64))


@pytest.mark.parametrize("part", ["attention.o_proj", "cross_attention.o_proj", "feed_forward.down_proj"])
def test_each_part_of_a_block_drops_what_it_adds(part):
    """One of three additions without dropout, or dropout on the stream itself, which would forget the tokens."""
    block = Block(config(), cross_attention=True)
    for name in ("attention.o_proj", "cross_attention.o_proj", "feed_forward.down_proj"):
        constant(block.get_submodule(name), 1.0 if name == part else 0.0)
    stream, memory = torch.full((8, 64, 64), 2.0), torch.randn(8, 5, 64)
    is_dropout(block(stream, memory=memory)[0] - stream)
    assert torch.equal(block.eval()(stream, memory=memory)[0], stream + 1)


CALLS = {
    "all": dict(),
    "causal": dict(causal=True),
    "masked": dict(mask=torch.ones(64, 64, dtype=torch.bool).tril(3)),
    "biased": dict(bias=torch.linspace(0, 1, 64).expand(64, 64)),
    "one query for shared keys": dict(q_len=1),
}


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("call", CALLS)
def test_attention_drops_weights(call, backend):
    """A kernel called without its dropout, on one of the paths through ``attend``; values dropped in place of weights.

    The values are unit vectors: what is mixed are the weights themselves.
    """
    keywords = dict(CALLS[call])
    q_len = keywords.pop("q_len", 64)
    q, k = torch.randn(300 // q_len + 2, 4, q_len, 64), torch.randn(300 // q_len + 2, 2, 64, 64)
    v = torch.eye(64).expand(*k.shape[:2], 64, 64)
    weights, _ = attend(q, k, v, backend=backend, **keywords)
    kept, _ = attend(q, k, v, backend=backend, dropout=P, **keywords)
    is_dropout((kept / weights)[weights > 0])


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("need_weights", [False, True])
def test_the_attention_layer_drops_in_training_alone(backend, need_weights):
    """A layer that never tells ``attend`` its dropout, or always does; a report of weights with holes in it."""
    layer = make_attention(config(attention_backend=backend))
    for projection in (layer.q_proj, layer.k_proj):  # all scores 0: every weight is 1/64
        constant(projection, 0.0)
    for projection in (layer.v_proj, layer.o_proj):
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    x = 64 * torch.eye(64).expand(8, 64, 64)
    mixed, weights = layer(x, need_weights=need_weights)
    is_dropout(mixed)
    if need_weights:
        torch.testing.assert_close(weights, torch.full((8, 1, 64, 64), 1 / 64))
    torch.testing.assert_close(layer.eval()(x)[0], torch.ones(8, 64, 64))


@pytest.mark.parametrize("kind", [SequenceClassifier, TokenClassifier])
def test_the_heads_drop_what_they_read(kind):
    """A classifier whose dropout is accepted and ignored, or comes after the classes and hides an answer."""
    model = kind(Encoder(small_config()), n_labels=24, dropout=P).train()
    nn.init.eye_(model.classifier.weight)
    ids = random_ids(60, 32)
    dropped = model(ids).logits
    whole = model.eval()(ids).logits
    is_dropout(dropped / whole)
    model.classifier.weight.data += 1  # every class now reads every number
    assert (model.train()(ids).logits != 0).all()


@pytest.mark.parametrize("kind", [DecoderLM, Encoder])
def test_a_model_hands_the_dial_to_all_its_parts(kind):
    """A part that is made without the configuration's dropout: each alone must make two passes differ."""
    model = kind(small_config(dropout=P))
    parts = [m for m in model.modules() if getattr(m, "p", None) == P or getattr(m, "dropout", None) == P]
    assert len(parts) == 1 + 2 * 2  # the embeddings, and in two blocks the additions and the weights
    ids = random_ids(2, 9)
    for part in parts:
        model.eval()
        assert torch.equal(model(ids).last_hidden_state, model(ids).last_hidden_state)
        part.train()
        assert not torch.equal(model(ids).last_hidden_state, model(ids).last_hidden_state)


def test_none_unless_asked_for():
    """A default that drops: two passes in training mode must agree."""
    model, ids = small_lm().train(), random_ids(2, 9)
    assert torch.equal(model(ids).logits, model(ids).logits)
