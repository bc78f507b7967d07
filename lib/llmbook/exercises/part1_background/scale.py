"""Scale: the price of GPT-3, how much use makes a model half as large, the best size in closed form."""

import math

from llmbook.exercises.exercise import Case, Exercise, Hint

LAW = (1.8172, 482.01, 0.3478, 2085.43, 0.3658)  # E, A, alpha, B, beta as refitted by Besiroglu et al.
PUBLISHED = (1.69, 406.4, 0.34, 410.7, 0.28)
HOURS = 3.14e23 / 28e12 / 3600

price = Exercise(
    answer=HOURS * 1.5 / 1e6,
    relative=0.03,
    hints=[
        Hint(HOURS / 8760, "These are the years of one V100. Asked are millions of dollars."),
        Hint(HOURS * 1.5, "These are dollars: give millions."),
        Hint(HOURS / 1e6, "These are millions of hours: multiply by the price of an hour."),
        Hint(HOURS * 3600 * 1.5 / 1e6, "Operations by operations per second are seconds: an hour has 3,600."),
    ],
)


def tokens_to_reach(loss: float, size: float) -> float:
    """The tokens a model of this size must read for this loss by the refitted law; infinite if it cannot."""
    E, A, alpha, B, beta = LAW
    left = loss - E - A / size**alpha
    return (B / left) ** (1 / beta) if left > 0 else math.inf


def cheapest(loss: float, served: float) -> float:
    """The size with the least 6ND + 2NM at this loss."""
    sizes = [10 ** (7 + i / 100) for i in range(501)]
    return min(sizes, key=lambda N: 6 * N * tokens_to_reach(loss, N) + 2 * N * served)


def half_as_large() -> float:
    """The tokens to be served until the best size for Chinchilla's loss is half of the best for training."""
    E, A, alpha, B, beta = LAW
    loss = E + A / 70e9**alpha + B / 1.4e12**beta
    alone = cheapest(loss, 0)
    return next(M for M in (10 ** (i / 50) for i in range(500, 800)) if cheapest(loss, M) <= alone / 2)


served = Exercise(
    answer=half_as_large,
    relative=0.15,
    hints=[
        Hint(lambda M: 1 <= M < 1000, "Give tokens, not billions or trillions of them."),
        Hint(
            lambda M: 1000 <= M < half_as_large(),
            "At so few tokens the cheapest size is still larger than half. Serve more.",
        ),
        Hint(lambda M: half_as_large() < M, "At so many tokens the cheapest size is smaller than half. Serve fewer."),
    ],
)


def best_size(E, A, alpha, B, beta, flop):
    """N and D that minimise equation (5) under 6ND = flop."""
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    N = G * (flop / 6) ** (beta / (alpha + beta))
    return N, flop / (6 * N)


def _exponents_swapped(E, A, alpha, B, beta, flop):
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    N = G * (flop / 6) ** (alpha / (alpha + beta))
    return N, flop / (6 * N)


def _without_the_six(E, A, alpha, B, beta, flop):
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    N = G * flop ** (beta / (alpha + beta))
    return N, flop / N


def _equal_parts(E, A, alpha, B, beta, flop):
    G = (A / B) ** (1 / (alpha + beta))
    N = G * (flop / 6) ** (beta / (alpha + beta))
    return N, flop / (6 * N)


def _as_searched(function) -> str | None:
    E, A, alpha, B, beta = LAW
    sizes = [10 ** (9 + i / 1000) for i in range(3000)]
    found = min(sizes, key=lambda N: E + A / N**alpha + B / (1e23 / (6 * N)) ** beta)
    size = function(*LAW, 1e23)[0]
    return None if abs(size / found - 1) < 0.01 else f"a search finds {found:.3g} parameters for 1e23, not {size:.3g}"


build = Exercise(
    build=best_size,
    relative=1e-3,
    cases=[
        Case("GPT-3's budget, the refitted law", (*LAW, 3.14e23)),
        Case("a small budget, the published law", (*PUBLISHED, 1e20)),
        Case("a search over sizes", test=_as_searched),
    ],
    hints=[
        Hint(_exponents_swapped, "N grows with the exponent of the tokens: β/(α + β)."),
        Hint(_without_the_six, "The budget is 6ND, so N · D is flop/6."),
        Hint(_equal_parts, "The derivatives are to be equal, not the two terms: the exponents come down as factors."),
    ],
)

EXERCISES = {1: price, 2: served, 3: build}
