"""Language models: a sentence by hand, companions of pieces, a text written as one binary number."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from llmbook.exercises.exercise import Case, Exercise, Hint

Shares = Callable[[Sequence[int]], Sequence[Fraction]]
TOKENS, P = 6, Fraction(1, 6) * Fraction(1, 6)  # of "the dog drinks the milk": two choices among six

sentence = Exercise(
    answer=float(P) ** (-1 / TOKENS),
    tolerance=0.005,
    hints=[
        Hint(float(1 / P), "This is 1/p of the whole sentence: spread it over its six tokens, as a root."),
        Hint(float(P) ** (-1 / 5), "The end of the sentence is predicted as well: six tokens, not five."),
        Hint(16 ** (1 / TOKENS), "This is the perplexity before: the third sentence changes what follows *the*."),
        Hint(math.log2(1 / P) / TOKENS, "These are bits per token: the perplexity is 2 to this power."),
    ],
)

companions = Exercise(
    between=(-0.06, 0.02),  # measured with 1 and with 4.3 million characters; words gain 0.07
    hints=[
        Hint(lambda gain: gain > 0.02, "That much it gains with words. With 2,048 pieces it gains next to nothing."),
        Hint(lambda gain: gain < -0.06, "It is worse than frequency, if at all, by a few hundredths of a bit."),
    ],
)


def encode(ids: Sequence[int], shares: Shares) -> str:
    """The shortest binary number whose every continuation lies in the interval of ``ids``."""
    low, width = Fraction(0), Fraction(1)
    for t, token in enumerate(ids):
        p = shares(ids[:t])
        low, width = low + width * sum(p[:token]), width * p[token]
    n_bits = 1
    while Fraction(1, 2**n_bits) > width / 2:
        n_bits += 1
    return f"{math.ceil(low * 2**n_bits):0{n_bits}b}"


def decode(bits: str, n: int, shares: Shares) -> list[int]:
    """The first ``n`` tokens of the text that ``bits`` names."""
    value, ids = Fraction(int(bits, 2), 2 ** len(bits)), []
    low, width = Fraction(0), Fraction(1)
    for _ in range(n):
        p, token = shares(ids), 0
        while value >= low + width * p[token]:
            low, token = low + width * p[token], token + 1
        width, ids = width * p[token], [*ids, token]
    return ids


def _after(ids):
    """A model of three tokens: the one just read comes again with 3/4."""
    p = [Fraction(1, 8)] * 3
    p[ids[-1] if ids else 0] = Fraction(3, 4)
    return p


def _read_back(coder):
    for ids in ([0, 0, 0, 1], [2, 1, 0, 2, 2, 2], [1]):
        bits = coder(ids, _after)
        if not isinstance(bits, str) or not bits or set(bits) - {"0", "1"}:
            return f'encode({ids}) is {bits!r}: give a text of "0" and "1"'
        if decode(bits, len(ids), _after) != ids:
            return f"encode({ids}) gives {bits}, which is decoded as {decode(bits, len(ids), _after)}"
    return None


def _short(coder):
    for ids in ([0] * 20, [2, 1, 0, 2, 2, 2]):
        surprise = -sum(math.log2(_after(ids[:t])[token]) for t, token in enumerate(ids))
        if (n_bits := len(coder(ids, _after))) > surprise + 2.01:
            return f"{n_bits} bits for a surprise of {surprise:.1f}: two more are enough"
    return None


def _from_the_start(ids, shares):
    return encode(ids, lambda before: shares([]))


coder = Exercise(
    build=encode,
    cases=[Case("the bits are decoded as the text", test=_read_back), Case("two bits above the surprise", test=_short)],
    hints=[Hint(_from_the_start, "The probabilities change with every token: ask for those after what came before.")],
)

EXERCISES = {1: sentence, 2: companions, 3: coder}
