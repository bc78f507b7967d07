"""Numbers keep their names from run to run, and clocks are none of them."""

import math

import pytest

from llmbook.results.quantities import Quantity, named, printed

FINAL = "held-out text: 1.912 nats a token, 2.76 bits per byte"


def test_a_number_is_named_by_its_cell_its_line_and_its_place():
    """Catches the loss of one model compared with that of another, and a name that holds the value it names."""
    found = printed("final", FINAL)
    assert found == {
        "final: held-out text: # nats a token, … bits per byte": Quantity(1.912, pytest.approx(0.001)),
        "final: held-out text: … nats a token, # bits per byte": Quantity(2.76, pytest.approx(0.01)),
    }
    assert set(printed("final", FINAL.replace("1.912", "2.31"))) == set(found)


def test_lines_that_look_alike_are_counted():
    """Catches the rows of a table that overwrite each other."""
    found = printed("t", "0.45  0.38\n0.50  0.18")
    assert {name: q.value for name, q in found.items()} == {
        "t: # …": 0.45, "t: … #": 0.38, "t: # … (2)": 0.50, "t: … # (2)": 0.18,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "value", "unit"),
    [
        ("4,305,806 tokens", 4_305_806, 0),
        ("-0.132", -0.132, 0.001),
        ("−0.132", -0.132, 0.001),
        ("1.9e-03 apart", 0.0019, 0.0001),
        ("49%", 49, 1),
        ("below chance: True", 1, 0),
        ("below chance: False", 0, 0),
        ("[7]", 7, 0),
    ],
)
def test_every_way_of_writing_a_number(written, value, unit):
    """Catches a thousand read as one, a minus sign lost, and a rounded share taken for an exact count."""
    (found,) = printed("c", written).values()
    assert found.value == pytest.approx(value)
    assert found.unit == pytest.approx(unit)


def test_nan_is_a_number_here():
    """Catches a loss that overflowed and vanished from the comparison."""
    (found,) = printed("c", "loss nan").values()
    assert math.isnan(found.value)


@pytest.mark.parametrize(
    "line",
    [
        "step  90/500  loss 2.273  valid 4.642  51,802 tokens/s  0:08 left",
        "12.3 ms",
        "3 minutes",
        "51,802 tokens/s",
        "minutes   0.2   3.5",
        "recorded 2026-11-22 on AMD EPYC, 2 cores, torch 2.13.0+cpu",
        "cpu, float32: no GPU, 1 CPU threads; float32 is the safe choice on cpu",
        "wikitext-103 and d_model",
    ],
)
def test_clocks_origins_and_names_are_left_out(line):
    """Catches a slower machine reported as a wrong result."""
    assert printed("c", line) == {}


def test_a_clock_does_not_take_its_neighbours_along():
    """Catches a loss that goes unchecked because a time stands on its line."""
    (found,) = [q.value for q in printed("c", "window 3.006 after 3.2 s").values()]
    assert found == 3.006


def test_named_numbers_are_those_of_the_record():
    """Catches curves, settings and clocks among the results, and inner names that hide each other."""
    data = {
        "loss": 1.5, "ok": True, "score": {"counts": 2.0}, "numbers": {"counts": 3}, "curve": [1.0, 2.0],
        "seconds": 3.0, "scale": "quick", "steps": 500, "training": {"lr": 0.1}, "sample": "text",
    }  # fmt: skip
    found = {name: q.value for name, q in named(data).items()}
    assert found == {"loss": 1.5, "ok": 1.0, "score, counts": 2.0, "numbers, counts": 3.0}
