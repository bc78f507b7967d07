"""The forward process of masked diffusion: shares even, hidden as often as their share says, nothing else touched."""

import numpy as np
import pytest
import torch

from llmbook.text import IGNORE, HideShare

MASK = 20


def hidden(n_rows=64, n_tokens=500, **extra):
    ids = torch.randint(20, (n_rows, n_tokens))
    return ids, HideShare(mask_id=MASK)({"input_ids": ids, **extra}, np.random.default_rng(0))


def test_each_row_is_hidden_as_often_as_its_share():
    """Catches one share for the whole batch, and a share that is not the one used."""
    _, batch = hidden()
    found = (batch["labels"] != IGNORE).float().mean(1)
    deviation = (batch["share"] * (1 - batch["share"]) / 500).sqrt()
    assert ((found - batch["share"]).abs() < 5 * deviation + 1e-3).all()


def test_shares_are_spread_evenly():
    """Catches shares from another distribution: sorted, they are steps of one batch-th."""
    _, batch = hidden()
    steps = batch["share"].sort().values.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 0.98 / 64), atol=1e-4, rtol=0)
    assert batch["share"].min() >= 0.02
    assert batch["share"].max() <= 1


def test_labels_are_the_hidden_tokens_and_the_rest_is_read():
    """Catches labels taken after hiding, and tokens that are shown and scored."""
    ids, batch = hidden()
    chosen = batch["labels"] != IGNORE
    assert torch.equal(batch["labels"][chosen], ids[chosen])
    assert torch.equal(batch["input_ids"], ids.masked_fill(chosen, MASK))


def test_padding_is_never_hidden():
    """Catches targets in the padding."""
    real = torch.ones(64, 500).long()
    real[:, 300:] = 0
    _, batch = hidden(attention_mask=real)
    assert (batch["labels"][:, 300:] == IGNORE).all()


@pytest.mark.parametrize("least", [0, 1, -0.1])
def test_a_least_share_outside_is_refused(least):
    """Catches a weight of 1/0."""
    with pytest.raises(ValueError, match=f"least={least}"):
        HideShare(mask_id=MASK, least=least)
