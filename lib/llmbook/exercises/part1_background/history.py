"""A short history: the parameters of 2003, a mixture that knows when, one step of an LSTM."""

import torch
from torch import nn

from llmbook.exercises.exercise import Case, Exercise, Hint

V, WIDTH, WINDOW, HIDDEN = 72, 32, 8, 256
TABLE, LAYER, SCORES = V * WIDTH, HIDDEN * WINDOW * WIDTH + HIDDEN, V * HIDDEN + V

count = Exercise(
    answer=TABLE + LAYER + SCORES,
    hints=[
        Hint(TABLE + LAYER + SCORES - HIDDEN - V, "The vectors d and b are missing: 256 and V numbers."),
        Hint(LAYER + SCORES, "The table C is missing: one vector of 32 numbers for each of the 72 characters."),
        Hint(
            TABLE + HIDDEN * WIDTH + HIDDEN + SCORES,
            "H reads eight vectors laid end to end: it has 8 · 32 columns, not 32.",
        ),
        Hint(
            WINDOW * TABLE + LAYER + SCORES,
            "The table C is shared by all eight places: it counts once.",
        ),
    ],
)

mixture = Exercise(
    between=(0.0005, 0.06),
    unit="bits",
    hints=[
        Hint(lambda gain: gain < 0, "This is the other way round: the single share less the several."),
        Hint(
            lambda gain: 0.06 < gain < 0.25,
            "This is nearer to the gain over the counts alone. Asked is the gain over the best single share.",
        ),
        Hint(
            lambda gain: gain > 1,
            "These are the bits themselves. Asked is a difference: the best single share less the several.",
        ),
    ],
)


def lstm_step(x, h, c, lstm):
    """Equations (2) and (3) for one token; the new h and c."""
    i, f, g, o = _mixed(x, h, lstm).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _mixed(x, h, lstm):
    return lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0


def _in_another_order(x, h, c, lstm):
    f, i, g, o = _mixed(x, h, lstm).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _old_memory_out(x, h, c, lstm):
    i, f, g, o = _mixed(x, h, lstm).chunk(4)
    return o.sigmoid() * c.tanh(), f.sigmoid() * c + i.sigmoid() * g.tanh()


def _not_squeezed(x, h, c, lstm):
    i, f, g, o = _mixed(x, h, lstm).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c, c


def _one_bias(x, h, c, lstm):
    i, f, g, o = (_mixed(x, h, lstm) - lstm.bias_hh_l0).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _given(seed: int) -> tuple:
    """A token's vector, a state, and a small LSTM with random numbers."""
    draw = torch.Generator().manual_seed(seed)
    lstm = nn.LSTM(5, 4)
    for parameter in lstm.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    x, h, c = (torch.randn(n, generator=draw) for n in (5, 4, 4))
    return x, h, c, lstm.requires_grad_(False)


def _as_pytorch(step) -> str | None:
    x, _, _, lstm = _given(3)
    tokens = torch.stack([x, -x, x * 0.5])
    wanted, _ = lstm(tokens)
    h = c = torch.zeros(4)
    for t, token in enumerate(tokens):
        h, c = step(token, h, c, lstm)
        if (h - wanted[t]).abs().max() > 1e-5:
            return f"step {t} differs from PyTorch by {(h - wanted[t]).abs().max():.3f}"
    return None


step = Exercise(
    build=lstm_step,
    tolerance=1e-5,
    cases=[
        Case("one step from a random state", _given(1)),
        Case("another one", _given(2)),
        Case("three steps, as PyTorch takes them", test=_as_pytorch),
    ],
    hints=[
        Hint(_in_another_order, "PyTorch's blocks stand in the order i, f, g, o."),
        Hint(_old_memory_out, "What is put out comes from the new c, not from the old one."),
        Hint(_not_squeezed, "Equation (3): h is o times tanh of c."),
        Hint(_one_bias, "PyTorch has two bias vectors, and both are added."),
    ],
)

EXERCISES = {1: count, 2: mixture, 3: step}
