"""The Transformer: GPT-2 counted by hand, one number doubled, the parallel block."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint
from llmbook.model import DecoderLM, TransformerConfig

V, T, C, L = 50_257, 1024, 768, 12  # GPT-2 small
BLOCK = 12 * C**2 + 13 * C
TOTAL = (V + T) * C + L * BLOCK + 2 * C

count = Exercise(
    answer=TOTAL,
    hints=[
        Hint(TOTAL - L * 13 * C - 2 * C, "Biases and norms are missing: 13C in a block, 2C in the last norm."),
        Hint(TOTAL - L * 9 * C, "The biases are missing: 4C in attention, 5C in the feed-forward layer of a block."),
        Hint(TOTAL - L * 4 * C - 2 * C, "The norms are missing: two of 2C in a block, one of 2C at the end."),
        Hint(TOTAL - 2 * C, "The last norm is missing: 2C."),
        Hint(TOTAL - T * C, "The table of positions is missing: one vector for each of the 1,024 places."),
        Hint(TOTAL + V * C, "The tables are tied: the output uses the table of the input, so it counts once."),
        Hint(L * BLOCK, "These are the blocks alone: two tables and the last norm are missing."),
    ],
)


def _in_blocks(d_model=C, n_layers=L, vocab_size=V, n_heads=12):
    """Parameters of the blocks of GPT-2; two of the arguments change none."""
    return n_layers * (12 * d_model**2 + 13 * d_model)


doubled = {"d_model": 2 * C, "n_layers": 2 * L, "vocab_size": 2 * V, "n_heads": 24}
double = Exercise(
    answer={name: _in_blocks(**{name: value}) / _in_blocks() for name, value in doubled.items()},
    relative=0.02,
    hints=[
        Hint(
            lambda given: abs(given["d_model"] - 2) < 0.1,
            "Each matrix of a block has C on both sides, or C and 4C: twice the width is four times the matrix.",
        ),
        Hint(
            lambda given: given["n_heads"] > 1.5,
            "More heads, each half as wide: H · D stays C, and so do the matrices.",
        ),
        Hint(lambda given: given["vocab_size"] > 1.1, "No matrix of a block has V on a side: the table lies outside."),
    ],
)


def parallel(x, part):
    """Both parts of a block read the same normalised copy, and both results are added at once."""
    copy = part.attention_norm(x)
    return x + part.attention(copy, causal=True)[0] + part.feed_forward(copy)


def _one_after_the_other(x, part):
    x = x + part.attention(part.attention_norm(x), causal=True)[0]
    return x + part.feed_forward(part.attention_norm(x))


def _sees_the_future(x, part):
    copy = part.attention_norm(x)
    return x + part.attention(copy)[0] + part.feed_forward(copy)


def _without_the_stream(x, part):
    return parallel(x, part) - x


def _not_normalised(x, part):
    return x + part.attention(x, causal=True)[0] + part.feed_forward(x)


def _two_norms(x, part):
    read = part.attention(part.attention_norm(x), causal=True)[0]
    return x + read + part.feed_forward(part.feed_forward_norm(x))


def _block(seed: int) -> tuple:
    """Five vectors, and a block with random weights in which no two norms are the same."""
    sizes = dict(vocab_size=5, max_seq_len=8, d_model=8, n_layers=1, n_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        part = DecoderLM(TransformerConfig.gpt2(**sizes, init_std=0.3)).backbone.blocks[0]
        for norm in (part.get_submodule(f"{name}_norm") for name in ("attention", "feed_forward")):
            torch.nn.init.uniform_(norm.get_parameter("weight"), 0.5, 1.5)
        return torch.randn(1, 5, 8), part.requires_grad_(False)


build = Exercise(
    build=parallel,
    tolerance=1e-5,
    cases=[Case("five tokens", _block(0)), Case("other weights", _block(1))],
    hints=[
        Hint(
            _one_after_the_other,
            "The feed-forward layer reads what attention has changed: let both read one copy.",
        ),
        Hint(_sees_the_future, "Every token reads those after it: attention needs `causal=True`."),
        Hint(_without_the_stream, "What the parts give has to be added to x."),
        Hint(_not_normalised, "The parts read x itself: let them read its normalised copy."),
        Hint(_two_norms, "Two norms: both parts read the copy of `attention_norm`."),
    ],
)

EXERCISES = {1: count, 2: double, 3: build}
