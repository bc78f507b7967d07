"""What the values of ``Sampling`` may be, and how it is said when they are not."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from operator import index
from typing import Any

COLDEST = 1e-6  # dividing by less overflows float32
OPTIONAL = ("max_new_tokens", "top_k", "top_p", "min_p", "seed", "logprobs")
# Whole numbers: the least, the greatest, and the words for both.
WHOLE: dict[str, tuple[float, float, str]] = {
    "max_new_tokens": (0, math.inf, "that is not negative, or None for what the context has room for"),
    "min_new_tokens": (0, math.inf, "that is not negative"),
    "top_k": (1, math.inf, "of at least 1, or None for no limit"),
    "n": (1, math.inf, "of at least 1"),
    "seed": (-(2**63), 2**63 - 1, "of at most 64 bits, or None for a new one each time"),
    "logprobs": (0, math.inf, "that is not negative, or None for no log-probabilities"),
}
# Numbers: what they fulfil, and the words for it.
NUMBERS: dict[str, tuple[Any, str]] = {
    "temperature": (
        lambda t: t == 0 or COLDEST <= t < math.inf,
        f"be 0 (always the likeliest token) or a number from {COLDEST} up",
    ),
    "top_p": (lambda p: 0 < p <= 1, "lie in (0, 1], or be None for no limit"),
    "min_p": (lambda p: 0 <= p <= 1, "lie in [0, 1], or be None for no limit"),
    "repetition_penalty": (lambda x: 0 < x < math.inf, "be above 0; 1 is none, 1.2 a noticeable one"),
    "presence_penalty": (math.isfinite, "be finite; 0 is none"),
    "frequency_penalty": (math.isfinite, "be finite; 0 is none"),
}


def whole(name: str, value: Any) -> int | None:
    """An option as an ``int``. Raises ValueError, naming it, unless it is a whole number within its bounds."""
    if value is None and name in OPTIONAL:
        return None
    low, high, advice = WHOLE[name]
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        raise ValueError(f"{name}={value!r}: must be a whole number {advice}")
    return int(value)


def check_number(name: str, value: Any) -> None:
    """Raise ValueError, naming it, unless an option is a number and in range."""
    if value is None and name in OPTIONAL:
        return
    fits, advice = NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name}={value!r}: must be a number")
    if not fits(value):
        raise ValueError(f"{name}={value}: must {advice}")


def end_ids(eos_token_id: int | Sequence[int] | None) -> tuple[int, ...]:
    """One end token, several or none, as a tuple; numbers out of a tensor, too."""
    if eos_token_id is None:
        return ()
    try:
        return (index(eos_token_id),)
    except TypeError:
        return tuple(map(index, eos_token_id))


def bias(given: Mapping[int, float] | Sequence[tuple[int, float]] | None) -> tuple[tuple[int, float], ...]:
    """Biases by token, as a tuple, so that a ``Sampling`` can be compared and hashed. Raises ValueError for what is no
    number by a token."""
    try:
        pairs = tuple((index(token), float(value)) for token, value in dict(given or {}).items())
    except (TypeError, ValueError):
        raise ValueError(f"logit_bias={given!r}: must give numbers by token, as {{50256: -100}}") from None
    for token, value in pairs:
        if math.isnan(value) or value == math.inf:
            raise ValueError(f"logit_bias={{{token}: {value}}}: must be a number, or -inf to forbid the token")
    return pairs
