"""Classic mistakes of hiding tokens, made on purpose: for each, a named test of this folder must notice.

As in ``tests/model/test_mutations.py``, each case patches one mistake into the library, runs the test that is meant
to catch it, and demands that the test fails.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from llmbook.text import MaskTokens
from tests.mutations import must_be_noticed
from tests.text import test_masking

real = MaskTokens.__call__


def in_shares(**shares: float):
    """The same change with other shares of what is chosen."""
    return lambda change, batch, generator: real(replace(change, **shares), batch, generator)


def labels_of_what_is_left(change, batch, generator):
    out = real(change, batch, generator)
    return {**out, "labels": out["input_ids"].where(out["labels"] != -100, out["labels"])}


def padding_is_a_token_too(change, batch, generator):
    out = real(change, {"input_ids": batch["input_ids"]}, generator)
    return {**batch, **out}


def shares() -> None:
    test_masking.test_shares_are_those_of_bert(test_masking.ours, 0)


MUTATIONS: dict[str, tuple[object, Callable[[], None]]] = {
    "every chosen token becomes [MASK]": (in_shares(masked=1.0, random=0.0), shares),
    "a tenth of the rest, not of all, becomes a random token": (in_shares(random=0.02), shares),
    "no chosen token stays as it is": (in_shares(random=0.2), shares),
    "one token in ten is chosen": (in_shares(probability=0.1), shares),
    "special tokens are chosen": (
        in_shares(special_ids=()), test_masking.test_only_chosen_tokens_change_and_labels_hold_the_original,
    ),
    "labels are read after the tokens were hidden": (
        labels_of_what_is_left, test_masking.test_only_chosen_tokens_change_and_labels_hold_the_original,
    ),
    "padding is chosen": (
        padding_is_a_token_too, test_masking.test_only_chosen_tokens_change_and_labels_hold_the_original,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    """A test that would pass whatever the library computes."""
    mistake, test = MUTATIONS[name]
    must_be_noticed(MaskTokens, "__call__", mistake, test, monkeypatch)
