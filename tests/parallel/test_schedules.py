"""Schedules of a pipeline as data: the bubble is the formula's, and no pass runs before what it needs."""

from itertools import pairwise

import pytest

from llmbook.parallel import bubble_fraction, most_in_flight, order, schedule

SIZES = [(1, 1), (1, 3), (2, 1), (2, 4), (3, 2), (4, 8), (5, 3)]


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_the_bubble_is_the_formula_s(p, m, kind):
    """Catches a schedule that waits longer than it must, overlaps two passes of a stage, or forgets one."""
    slots = schedule(p, m, kind=kind)
    assert bubble_fraction(slots) == pytest.approx((p - 1) / (m + p - 1))
    assert len({(slot.stage, slot.start) for slot in slots}) == len(set(slots)) == 2 * p * m


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_nothing_runs_before_its_input(p, m, kind):
    """Catches a backward pass before its forward pass, and a stage that runs ahead of its neighbour."""
    start = {(slot.direction, slot.micro_batch, slot.stage): slot.start for slot in schedule(p, m, kind=kind)}
    for i in range(m):
        path = [start["F", i, stage] for stage in range(p)] + [start["B", i, stage] for stage in reversed(range(p))]
        assert all(earlier < later for earlier, later in pairwise(path))


def test_1f1b_holds_fewer_micro_batches():
    """Catches a 1F1B that is GPipe under another name."""
    for stage in range(4):
        assert most_in_flight(schedule(4, 8), stage) == 8
        assert most_in_flight(schedule(4, 8, kind="1f1b"), stage) == 4 - stage


def test_orders_and_refusals():
    """Catches an off-by-one in the warm-up of 1F1B; and typing errors."""
    written = lambda *arguments: " ".join(f"{d}{i}" for d, i in order(*arguments, kind="1f1b"))  # noqa: E731
    assert written(0, 3, 4) == "F0 F1 F2 B0 F3 B1 B2 B3"
    assert written(2, 3, 4) == "F0 B0 F1 B1 F2 B2 F3 B3"
    with pytest.raises(ValueError, match="kind='zigzag' is not one of 'gpipe', '1f1b'"):
        order(0, 2, 2, kind="zigzag")
    with pytest.raises(ValueError, match="stage 2 of 2 with 1 micro-batches"):
        order(2, 2, 1)
