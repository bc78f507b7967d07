"""The encoder: a norm by hand, three middle layers left out, a layer that reads padded batches."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint
from llmbook.model import Encoder, TransformerConfig

STREAM, PART = torch.tensor([1.0, 0.0, 3.0, 0.0]), torch.tensor([0.0, 3.0, 2.0, 7.0])


def _normed(x, correction=0):
    return (x - x.mean()) / x.std(correction=correction)


norm = Exercise(
    answer=_normed(STREAM + PART).tolist(),
    tolerance=0.01,
    hints=[
        Hint(_normed(STREAM + PART, 1).tolist(), "The variance is the mean of the squares: divide by 4, not by 3."),
        Hint((STREAM + _normed(PART)).tolist(), "The norm comes after the addition: add first, then normalise."),
        Hint(_normed(PART).tolist(), "The stream itself is missing: add x first."),
        Hint((STREAM + PART).tolist(), "This is the sum; now subtract its mean and divide by its standard deviation."),
        Hint((STREAM + PART - 4).tolist(), "The mean is gone; the division by the standard deviation is missing."),
        Hint(((STREAM + PART - 4) / 5).tolist(), "Divide by the standard deviation √5, not by the variance 5."),
    ],
)

skipped = Exercise(
    between=(0.6, 0.9),
    hints=[
        Hint(lambda given: float(given) >= 0.9, "As much as one layer less costs; here three are missing."),
        Hint(lambda given: float(given) < 0.6, "Less than a swap of layers 3 and 5 leaves: leaving out is milder."),
    ],
)


def layer(x, block, real):
    """One post-norm layer for a padded batch, x [B, T, C] and real [B, T], from its pieces."""
    (B, T, C), a = x.shape, block.attention
    q, k, v = (p(x).view(B, T, a.n_heads, a.d_head).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
    scores = (q @ k.mT / math.sqrt(a.d_head)).masked_fill(~real[:, None, None], -math.inf)  # [B, H, T, T]
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C)
    r = block.attention_norm(x + a.o_proj(mixed))
    return block.feed_forward_norm(r + block.feed_forward(r))


def _pieces(x, block, real, *, scaled=True, hidden=True, heads=True, swapped=False, post=True, stream=1.0):
    (B, T, C), a = x.shape, block.attention
    n, d = (a.n_heads, a.d_head) if heads else (1, C)
    entering = x if post else block.attention_norm(x)
    q, k, v = (p(entering).view(B, T, n, d).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
    scores = q @ k.mT / (math.sqrt(d) if scaled else 1)
    if hidden:
        keys = real[:, None, :, None] if swapped else real[:, None, None]
        scores = scores.masked_fill(~keys, -1e9 if swapped else -math.inf)
    read = a.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C))
    if not post:
        r = x + read
        return r + block.feed_forward(block.feed_forward_norm(r))
    r = block.attention_norm(stream * x + read)
    return block.feed_forward_norm(stream * r + block.feed_forward(r))


def _mistake(**how):
    return lambda x, block, real: _pieces(x, block, real, **how)


def _batch(seed: int, n_heads: int) -> tuple:
    """Two sentences of five and three tokens, and a layer with random weights in which no two norms are the same."""
    sizes = dict(vocab_size=5, max_seq_len=8, d_model=8, n_layers=1, n_heads=n_heads)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = Encoder(TransformerConfig.bert(**sizes, init_std=0.4)).eval().blocks[0].requires_grad_(False)
        for part in (block.get_submodule(f"{name}_norm") for name in ("attention", "feed_forward")):
            torch.nn.init.uniform_(part.get_parameter("weight"), 0.5, 1.5)
        real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
        return torch.randn(2, 5, 8), block, real


def _blind_to_padding(built):
    """None if other numbers in the padding leave the real tokens as they are, else what is wrong."""
    x, block, real = _batch(2, 2)
    before = built(x, block, real)
    after = built(torch.where(real[..., None], x, 9.0), block, real)
    off = (before - after)[real].abs().max().item()
    return None if off < 1e-5 else f"other numbers in the padding change the real tokens by {off:.2f}"


build = Exercise(
    build=layer,
    tolerance=1e-4,
    cases=[
        Case("two heads", _batch(0, 2)),
        Case("four heads", _batch(1, 4)),
        Case("padding is not read", test=_blind_to_padding),
    ],
    hints=[
        Hint(_mistake(hidden=False), "Padding is read: give its scores −∞ before the softmax."),
        Hint(_mistake(swapped=True), "The mask hides queries; it belongs on the last axis, that of the keys."),
        Hint(_mistake(scaled=False), "The scores have to be divided by √D."),
        Hint(_mistake(heads=False), "Each head has its own softmax: split C into n_heads × d_head first."),
        Hint(_mistake(post=False), "This is pre-norm. Here the norm comes after the addition."),
        Hint(_mistake(stream=0.0), "The stream is lost: add x to what each part gives."),
    ],
)

EXERCISES = {1: norm, 2: skipped, 3: build}
