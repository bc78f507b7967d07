"""The yardstick is a fair one: the plain GPT is GPT-2, in size and in numbers."""

import torch
import torch.nn.functional as F

from benchmarks.contenders import LADDER, QUALITY
from benchmarks.peers.loops import PeerLoop
from benchmarks.peers.models import Size, plain_gpt, transformers_gpt2
from benchmarks.peers.plain_gpt import PlainGPT
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import LMBatches

SIZES = dict(vocab_size=17, d_model=16, n_layers=2, n_heads=2)
SMALL = Size(n_layers=2, n_heads=2, d_model=16, seq_len=8, batch_size=2, vocab_size=17)


def test_with_biases_the_plain_gpt_has_the_parameters_of_gpt2():
    """Catches a yardstick that is quick because something is missing."""
    theirs, _ = transformers_gpt2(SMALL)
    plain = PlainGPT(**SIZES, seq_len=8, bias=True)
    assert _count(plain) == _count(theirs)
    assert _count(plain) - _count(plain_gpt(SMALL)[0]) == 16 * (2 * (2 + 3 + 1 + 4 + 1) + 1), "what biases add"


def test_with_the_same_weights_the_plain_gpt_and_ours_have_the_same_loss_and_gradient():
    """Catches a missing norm, scale, mask or tie in the yardstick."""
    config = TransformerConfig.gpt2(**SIZES, max_seq_len=8, bias=False, feed_forward="gelu")
    ours, plain = DecoderLM(config), PlainGPT(**SIZES, seq_len=8)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(std=0.3)
    ours.load_state_dict(_our_names(plain, n_layers=2))
    ids = torch.randint(17, (3, 9))
    losses = [F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()) for logits in (
        ours(ids[:, :-1]).logits, plain(ids[:, :-1]))]  # fmt: skip
    torch.testing.assert_close(*losses, atol=1e-5, rtol=0)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(ours.lm_head.weight.grad, plain.tokens.weight.grad, atol=1e-5, rtol=1e-4)


def test_the_usual_loop_follows_the_recipe():
    """Catches a peer trained with another schedule, without clipping, or with gradients that pile up."""
    model, logits = plain_gpt(SMALL)
    loop = PeerLoop(model, logits, steps=200, bf16=False)
    loop.run(LMBatches(torch.randint(17, (50,)), batch_size=2, seq_len=8), 50)
    assert {group["lr"] for group in loop.optimizer.param_groups} == {1e-3 * 50 / 100}
    assert {group["weight_decay"] for group in loop.optimizer.param_groups} == {0.1, 0.0}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_ladder_ends_in_the_modern_preset():
    """Catches a rung that does not exist, and a ladder whose end is not what the book recommends."""
    loops = [QUALITY[name](SMALL, 10) for name in LADDER.values()]
    config = loops[-1].model.config
    sizes = {**SIZES, "max_seq_len": 8}
    assert config == TransformerConfig.modern(**sizes)
    assert loops[0].model.config == TransformerConfig.gpt2(**sizes)
    assert [loop.config.optimizer for loop in loops] == ["adamw"] * 3 + ["muon"] * 5
    assert [loop.config.lr for loop in loops] == [1e-3] + [3e-3] * 7
    assert [loop.config.schedule for loop in loops] == ["cosine"] * 4 + ["trapezoid"] * 4
    assert [loop.replacement for loop in loops] == [True] * 5 + [False] * 3


def _count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _our_names(plain: PlainGPT, *, n_layers: int) -> dict[str, torch.Tensor]:
    """The plain GPT's weights under our names: its one projection cut into ours of queries, keys and values."""
    table = plain.tokens.weight
    named = {"lm_head.weight": table, "backbone.embeddings.tokens.weight": table}
    named |= {"backbone.embeddings.positions.table.weight": plain.positions.weight}
    named |= {"backbone.final_norm.weight": plain.final_norm.weight}
    for i in range(n_layers):
        block, ours = plain.blocks[i], f"backbone.blocks.{i}"
        for part, weight in zip("qkv", block.qkv.weight.chunk(3), strict=True):
            named[f"{ours}.attention.{part}_proj.weight"] = weight
        named |= {
            f"{ours}.attention.o_proj.weight": block.out.weight,
            f"{ours}.attention_norm.weight": block.attention_norm.weight,
            f"{ours}.feed_forward_norm.weight": block.feed_forward_norm.weight,
            f"{ours}.feed_forward.up_proj.weight": block.up.weight,
            f"{ours}.feed_forward.down_proj.weight": block.down.weight,
        }
    return named
