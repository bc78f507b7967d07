"""Bars made of parts."""

import pytest

from llmbook.figures import FigureError, stacked_bars


def test_parts_keep_their_order_and_a_missing_part_is_nothing():
    """Catches a part that moves to another row when a row lacks one."""
    fig = stacked_bars({"a": {"x": 1, "y": 3}, "b": {"y": 2, "z": 5}}, alt="two bars")
    assert [(bar.name, list(bar.x)) for bar in fig.data] == [("x", [1, 0]), ("y", [3, 2]), ("z", [0, 5])]
    assert fig.layout.barmode == "stack"


def test_shares_add_up_to_one():
    """Catches dividing by the largest bar in place of the bar's own sum."""
    fig = stacked_bars({"a": {"x": 1, "y": 3}, "b": {"x": 5}}, alt="two bars", shares=True)
    assert [sum(bar.x[row] for bar in fig.data) for row in (0, 1)] == [1, 1]
    assert fig.data[0].x[0] == 0.25


def test_what_is_no_whole_is_refused():
    """Catches bars drawn over each other by a negative part, and a division by zero."""
    with pytest.raises(FigureError, match="no rows"):
        stacked_bars({}, alt="nothing")
    with pytest.raises(FigureError, match="'a' is"):
        stacked_bars({"a": {"x": -1}}, alt="a debt")
    with pytest.raises(FigureError, match="'a' is"):
        stacked_bars({"a": {"x": 0}}, alt="a share of nothing", shares=True)
    with pytest.raises(FigureError, match="7 parts"):
        stacked_bars({"a": {str(i): 1 for i in range(7)}}, alt="too many")
