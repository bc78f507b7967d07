"""Where a model starts: the spread of every matrix, matrices that write into the stream shrunk with depth, or zero."""

import math

import pytest
import torch
from torch import Tensor, nn

from llmbook.model import (
    DecoderLM,
    Encoder,
    EncoderDecoderLM,
    MaskedLM,
    SequenceClassifier,
    TokenClassifier,
    TransformerConfig,
    TwoStreamLM,
)

SIZES = dict(vocab_size=199, max_seq_len=64, d_model=48, n_heads=4, init_std=0.05)
INTO_THE_STREAM = ("o_proj", "down_proj")


def spread_is(weight: Tensor, std: float, name: str) -> None:
    """Mean 0 and this standard deviation, within five standard errors of a normal sample."""
    n = weight.numel()
    assert abs(weight.mean()) < 5 * std / math.sqrt(n), name
    assert abs(weight.std() - std) < 5 * std / math.sqrt(2 * n), (name, weight.std().item(), std)


MODELS = {
    "gpt2": lambda: DecoderLM(TransformerConfig.gpt2(n_layers=5, **SIZES)),
    "llama, untied": lambda: DecoderLM(TransformerConfig.llama(n_layers=5, tie_embeddings=False, **SIZES)),
    "bert": lambda: Encoder(TransformerConfig.bert(n_layers=5, **SIZES)),
    "masked": lambda: MaskedLM(TransformerConfig.bert(n_layers=5, **SIZES)),
    "classes": lambda: SequenceClassifier(Encoder(TransformerConfig.bert(n_layers=5, **SIZES)), n_labels=9),
    "tags": lambda: TokenClassifier(Encoder(TransformerConfig.bert(n_layers=5, **SIZES)), n_labels=9),
    "two streams": lambda: TwoStreamLM(TransformerConfig.gpt2(n_layers=5, **{**SIZES, "positions": "alibi"})),
    "t5": lambda: EncoderDecoderLM(TransformerConfig.t5(n_layers=5, n_decoder_layers=2, **SIZES)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_matrix_starts_with_its_spread(name):
    """A layer left with PyTorch's own initialisation, ``init_std`` ignored, the shrink by the number of additions
    to the stream forgotten, put on other matrices, counted in the other stack, or taken as 2 for a block that adds 3
    times; biases and gains that do not start at 0 and 1."""
    model = MODELS[name]()
    shrunk = 0
    for path, part in model.named_modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            additions = 2 * 3 if path.startswith("decoder.") else 5 * 2  # cross-attention adds as well
            into = path.endswith(INTO_THE_STREAM)
            spread_is(part.weight, SIZES["init_std"] / (math.sqrt(additions) if into else 1), path)
            shrunk += into
        if getattr(part, "bias", None) is not None:
            assert torch.equal(part.bias, torch.zeros_like(part.bias)), path
        if isinstance(part, (nn.LayerNorm, nn.RMSNorm)):
            assert torch.equal(part.weight, torch.ones_like(part.weight)), path
    assert shrunk == (5 * 2 + 2 * 3 if name == "t5" else 5 * 2)


def test_zero_init_is_zero_where_a_block_writes_and_nowhere_else():
    """Another matrix at zero, which would never learn; one that writes into the stream and is left out."""
    model = DecoderLM(TransformerConfig.modern(n_layers=5, **SIZES))
    for path, part in model.named_modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            if path.endswith(INTO_THE_STREAM):
                assert torch.equal(part.weight, torch.zeros_like(part.weight)), path
            else:
                spread_is(part.weight, SIZES["init_std"], path)


def test_the_stream_does_not_grow_with_depth():
    """What the shrink is for: with each block adding as much as another, 32 must add no more than 2 do."""
    added = {}
    for depth in (2, 32):
        torch.manual_seed(0)
        model = DecoderLM(TransformerConfig.gpt2(n_layers=depth, **SIZES)).eval()
        hidden = model(torch.randint(199, (4, 64)), need_hidden=True).hidden_states
        added[depth] = (hidden[-1] - hidden[0]).std().item()
    assert added[32] == pytest.approx(added[2], rel=0.25)
