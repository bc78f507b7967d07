"""Adaptation: numbers to learn, what doubling α does to a first step, a prefix as a mixture."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

counts = Exercise(
    answer=[4_194_304, 2_621_440, 81_920],
    hints=[
        Hint([131_072, 2_621_440, 81_920], "LoRA is in every one of the 32 layers."),
        Hint([2_097_152, 2_621_440, 81_920], "Queries and values: two matrices in each layer."),
        Hint([4_194_304, 1_310_720, 81_920], "A prefix has keys and values."),
        Hint([4_194_304, 2_621_440, 2_621_440], "A prompt is learned once, at the bottom, not in every layer."),
    ],
)

factor = Exercise(
    answer=4.0,
    tolerance=0.05,
    hints=[
        Hint(2.0, "B's step doubles, and so does the scale with which B A counts afterwards."),
        Hint(1.0, "Nothing divides the scale out again under SGD (Adam would take one of the two factors out)."),
        Hint(16.0, "s stands squared in equation (5), and s = α/r doubles."),
    ],
)


def mixed(q, K, V, K_p, V_p):
    """Attention of one query over a prefix and a text, as a mixture of the two."""
    scale = len(q) ** -0.5
    text, prefix = K @ q * scale, K_p @ q * scale
    share = torch.sigmoid(prefix.logsumexp(0) - text.logsumexp(0))
    return (1 - share) * text.softmax(0) @ V + share * prefix.softmax(0) @ V_p


def _unscaled(q, K, V, K_p, V_p):
    return mixed(q * len(q) ** 0.5, K, V, K_p, V_p)


def _by_count(q, K, V, K_p, V_p):
    scale, share = len(q) ** -0.5, len(K_p) / (len(K_p) + len(K))
    return (1 - share) * (K @ q * scale).softmax(0) @ V + share * (K_p @ q * scale).softmax(0) @ V_p


def _added(q, K, V, K_p, V_p):
    scale = len(q) ** -0.5
    return (K @ q * scale).softmax(0) @ V + (K_p @ q * scale).softmax(0) @ V_p


def _swapped(q, K, V, K_p, V_p):
    scale = len(q) ** -0.5
    text, prefix = K @ q * scale, K_p @ q * scale
    share = torch.sigmoid(text.logsumexp(0) - prefix.logsumexp(0))
    return (1 - share) * text.softmax(0) @ V + share * prefix.softmax(0) @ V_p


def _given(n, p, d, seed, size=1.0):
    g = torch.Generator().manual_seed(seed)
    return (
        size * torch.randn(d, generator=g),
        *(torch.randn(rows, d, generator=g) for rows in (n, n, p, p)),
    )


def _is_attention(function):
    for seed, (n, p) in enumerate(((4, 3), (1, 1), (6, 2))):
        q, K, V, K_p, V_p = _given(n, p, 8, seed + 10, 2.0)
        weights = (torch.cat([K_p, K]) @ q / 8**0.5).softmax(0)
        expected = weights @ torch.cat([V_p, V])
        if not torch.allclose(torch.as_tensor(function(q, K, V, K_p, V_p)), expected, atol=1e-4):
            return f"with {n} tokens behind a prefix of {p}, this is not attention over all of them"
    return None


build = Exercise(
    build=mixed,
    cases=[
        Case("one place each", _given(1, 1, 4, 0)),
        Case("three tokens behind two places", _given(3, 2, 4, 1)),
        Case("large scores", _given(3, 2, 4, 2, 200.0)),
        Case("attention over everything", test=_is_attention),
    ],
    tolerance=1e-4,
    hints=[
        Hint(_unscaled, "Scores are divided by √d before they are exponentiated."),
        Hint(_by_count, "The share is not that of the places but of their exponentiated scores."),
        Hint(_added, "The two readings are mixed with weights that add up to 1."),
        Hint(_swapped, "λ is the share of the prefix; here it is that of the text."),
    ],
)

EXERCISES = {1: counts, 2: factor, 3: build}
