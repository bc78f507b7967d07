"""Moving the middle to the end: nothing is lost, every gap comes, rows keep their length."""

import numpy as np
import pytest
import torch

from llmbook.text import LMBatches, MappedBatches, MoveMiddle

PRE, SUF, MID = 50, 51, 52
CHANGE = MoveMiddle(pre_id=PRE, suf_id=SUF, mid_id=MID, rate=1.0)


def test_the_middle_of_a_text_written_by_hand():
    """Catches prefix and suffix in the wrong order, and a middle cut one token off."""
    assert CHANGE.move([1, 2, 3, 4, 5], 1, 3) == [PRE, 1, SUF, 4, 5, MID, 2, 3]
    assert CHANGE.move([1, 2], 0, 2) == [PRE, SUF, MID, 1, 2]


def test_restore_is_the_inverse_for_every_gap():
    """Catches a token lost or doubled at a border of the gap."""
    ids = list(range(7))
    for start in range(8):
        for end in range(start, 8):
            assert CHANGE.restore(CHANGE.move(ids, start, end)) == ids


def test_rows_keep_their_length_and_text():
    """Catches rows that grow by the signs, and text taken from elsewhere than the row's beginning."""
    ids = torch.randint(50, (64, 12))
    moved = CHANGE({"input_ids": ids}, np.random.default_rng(0))["input_ids"]
    assert moved.shape == ids.shape
    assert [CHANGE.restore(row) for row in moved.tolist()] == ids[:, :-3].tolist()


def test_every_gap_is_as_likely_as_any_other():
    """Catches borders at the ends that are never drawn, and empty middles."""
    ids = torch.arange(6).repeat(30_000, 1)
    moved = CHANGE({"input_ids": ids}, np.random.default_rng(1))["input_ids"]
    rows, counts = moved.unique(dim=0, return_counts=True)
    assert len(rows) == 4 * 3 // 2  # two of the borders 0 … 3
    assert ((counts - 5000).abs() < 5 * 5000**0.5).all()


def test_the_share_of_rows():
    """Catches a rate that is ignored, and rows changed though they are to stay."""
    ids = torch.randint(50, (4000, 8))
    half = MoveMiddle(pre_id=PRE, suf_id=SUF, mid_id=MID)
    moved = half({"input_ids": ids}, np.random.default_rng(2))["input_ids"]
    arranged = moved[:, 0] == PRE
    assert abs(arranged.float().mean() - 0.5) < 5 * (0.25 / 4000) ** 0.5
    assert torch.equal(moved[~arranged], ids[~arranged])


def test_a_resumed_stream_moves_the_same_gaps():
    """Catches a draw from global random state."""
    make = lambda: MappedBatches(LMBatches(list(range(40)), batch_size=2, seq_len=9), CHANGE)  # noqa: E731
    first, second = make(), make()
    state = [next(first) for _ in range(2)] and first.state_dict()
    second.load_state_dict(state)
    assert torch.equal(next(first)["input_ids"], next(second)["input_ids"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MoveMiddle(pre_id=1, suf_id=2, mid_id=3, rate=1.5), "rate=1.5"),
        (lambda: MoveMiddle(pre_id=1, suf_id=1, mid_id=3), "must be different"),
        (lambda: CHANGE.move([1, 2], 2, 1), "start=2 and end=1"),
        (lambda: CHANGE.restore([1, 2]), "the signs"),
        (lambda: CHANGE.restore([1, PRE, SUF, MID]), "the first in front"),
        (lambda: CHANGE({"input_ids": torch.ones(1, 3).long()}, np.random.default_rng()), "a row of 3 tokens"),
        (lambda: CHANGE({"input_ids": torch.ones(1, 8), "attention_mask": 1}, np.random.default_rng()), "one length"),
    ],
)
def test_what_cannot_be_moved_is_refused(call, message):
    """Catches a message that does not name the value."""
    with pytest.raises(ValueError, match=message):
        call()
