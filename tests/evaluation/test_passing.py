"""How often one of k tries is right."""

from itertools import combinations

import pytest

from llmbook.evaluation import pass_at_k


@pytest.mark.parametrize("n_right", range(7))
@pytest.mark.parametrize("k", range(1, 7))
def test_it_is_the_share_of_all_choices(n_right, k):
    """Catches the biased 1 - (1 - c/n)^k, and factors that are taken the wrong way round."""
    tries = [True] * n_right + [False] * (6 - n_right)
    chosen = list(combinations(tries, k))
    assert pass_at_k(n_right, 6, k) == pytest.approx(sum(map(any, chosen)) / len(chosen))


def test_it_is_right_on_average():
    """Catches an estimate that is biased: over all outcomes of n tries it must average to 1 - (1 - p)^k."""
    from math import comb

    p, n, k = 0.3, 9, 4
    mean = sum(comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(c, n, k) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize(("n_right", "n", "k"), [(-1, 5, 1), (6, 5, 1), (2, 5, 0), (2, 5, 6)])
def test_what_cannot_be_is_named(n_right, n, k):
    """Catches a silent 0 or 1 for numbers that make no sense."""
    with pytest.raises(ValueError, match=f"={n_right if k == 1 else k}"):
        pass_at_k(n_right, n, k)
