r"""How often one of several tries is right (https://arxiv.org/abs/2107.03374, §2.1).

With probability p for one try, at least one of k independent tries is right with probability

$$\mathrm{pass@}k = 1 - (1 - p)^k$$

Where p is not known but c of n tries were right, putting c/n for p gives too little on average; the share of all
sets of k among the n tries that hold a right one is right on average.
"""

from math import comb


def pass_at_k(n_right: int, n: int, k: int) -> float:
    r"""The unbiased estimate from n tries, of which ``n_right`` = c were right.

    $$1 - \binom{n - c}{k} \Big/ \binom{n}{k}$$

    Raises ValueError if c is not among 0 … n, or k not among 1 … n.
    """
    if not 0 <= n_right <= n:
        raise ValueError(f"n_right={n_right} of n={n} tries: give a number between 0 and {n}")
    if not 1 <= k <= n:
        raise ValueError(f"k={k}: of n={n} tries, between 1 and {n} can be taken")
    return 1 - comb(n - n_right, k) / comb(n, k)
