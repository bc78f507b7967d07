"""Yours beside ours: a planted difference is named, a wrong number is not excused, and no cause is made up."""

import math

import pytest

from llmbook.results import comparison
from llmbook.results.circumstances import CAUSES, differences, settings
from llmbook.results.comparison import EXPLAINED, IN, UNEXPLAINED, compare
from llmbook.results.quantities import Quantity
from llmbook.results.reference import Band, Reference

CPU = {
    "scale": "quick", "device": "CPU", "dtype": "float32", "torch": "2.13.0", "numpy": "2.4.6", "python": "3.11.7",
    "llmbook": "0.1.0", "threads": "1", "machine": "a laptop", "commit": "abc",
}  # fmt: skip
LOSS = [1.90, 1.91, 1.92, 1.89]  # ± 0.0843
VALUES = {"loss": LOSS, "parameters": [103_232.0] * 4, "accuracy": [0.57] * 4}


def ours(**changes):
    about = dict(chapter="5-practice/pretraining", command="make reference", date="2026-11-30", values=VALUES)
    return Reference(**{**about, "circumstances": CPU, **changes})


def verdicts(yours, circumstances=CPU, reference=None):
    quantities = {name: q if isinstance(q, Quantity) else Quantity(q) for name, q in yours.items()}
    whole = {"loss": Quantity(1.9), "parameters": Quantity(103_232), "accuracy": Quantity(0.57)} | quantities
    return compare("5-practice/pretraining", whole, circumstances, reference or ours())


def row(name, value, **changed):
    found = verdicts({name: value}, CPU | changed)
    return next(row for row in found.rows if row.name == name)


def test_the_same_run_is_in_the_band():
    """Catches an alarm where nothing differs."""
    found = verdicts({})
    assert [row.verdict for row in found.rows] == [IN] * 3
    assert found.summary() == "5-practice/pretraining: 3 of 3 numbers in the band"


def test_the_band_is_where_another_seed_lies():
    """Catches a band as narrow as the few seeds it is made of: half of all new seeds would be outside it."""
    band = Band.of(LOSS)
    assert band.centre == pytest.approx(1.905)
    assert band.half == pytest.approx(5.84 * 0.012910 * math.sqrt(1.25), rel=1e-3)
    assert row("loss", 1.98).verdict == IN
    assert row("loss", 2.0).verdict == UNEXPLAINED


def test_a_wrong_number_with_equal_circumstances_is_unexplained():
    """Catches a fault of the book explained away."""
    found = verdicts({"loss": 2.31})
    (bad,) = found.unexplained
    assert bad.words == "outside, unexplained"
    assert "please report" in "\n".join(comparison.notes(found, CPU))
    assert "1 unexplained" in found.summary()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scale": "full"}, "scale full (ours quick)"),
        ({"steps": "100"}, None),  # not known of ours: not a cause
        ({"llmbook": "0.2.0"}, "llmbook 0.2.0 (ours 0.1.0)"),
        ({"commit": "def"}, None),  # where the library stood is told, and explains nothing
    ],
)
def test_what_may_change_anything_is_named(changed, words):
    """Catches a cause that is not a difference between the runs, and one that is and goes unnamed."""
    found = row("loss", 2.31, **changed)
    assert found.verdict == (EXPLAINED if words else UNEXPLAINED)
    if words:
        assert found.words == f"outside: {words}"


def test_a_precision_explains_a_small_deviation_and_says_how_large():
    """Catches bfloat16 as an excuse for everything: it moves a loss a little, it does not double it."""
    near, far = (row("loss", value, dtype="bfloat16") for value in (2.05, 3.8))
    assert near.verdict == EXPLAINED
    assert near.words == "outside: precision bfloat16 (ours float32): expected up to ± 0.207"
    assert far.verdict == UNEXPLAINED
    assert "farther than the ± 0.207 of precision bfloat16" in far.words


def test_a_device_rounds_otherwise_but_counts_the_same():
    """Catches a last digit called an error, and a model with other parameters called rounding."""
    assert row("accuracy", Quantity(0.57, 0.01), device="Tesla T4").verdict == IN
    assert row("accuracy", 0.5704, device="Tesla T4").verdict == EXPLAINED
    assert row("accuracy", 0.5704).verdict == UNEXPLAINED
    assert row("parameters", 103_233, device="Tesla T4").verdict == UNEXPLAINED
    assert "no count moves with device Tesla T4" in row("parameters", 103_233, device="Tesla T4").words


def test_several_candidates_stand_in_the_order_of_their_usual_size():
    """Catches a version of Python named before the scale, and candidates told as if one of them were known."""
    changed = {"python": "3.13.1", "dtype": "float16", "device": "Tesla T4", "scale": "full", "machine": "another"}
    found = verdicts({"loss": 1.4}, CPU | changed)
    (bad,) = found.outside
    assert bad.words == "outside: 5 candidates, see below"
    (line,) = [line for line in comparison.notes(found, CPU | changed) if line.startswith("candidates")]
    order = [line.index(word) for word in ("scale full", "Tesla T4", "float16", "3.13.1", "another")]
    assert order == sorted(order)
    assert "usually largest first" in line


def test_nan_is_never_in_the_band():
    """Catches NaN, which is neither larger nor smaller than any band, passing as equal; where ours is NaN, it is."""
    assert row("loss", math.nan).verdict == UNEXPLAINED
    assert row("loss", math.nan, dtype="float16").verdict == UNEXPLAINED
    assert row("loss", math.inf).verdict == UNEXPLAINED
    reference = ours(values={"loss": [math.nan] * 4})
    assert verdicts({"loss": math.nan}, reference=reference).outside == []
    assert verdicts({"loss": 1.0}, reference=reference).outside != []


def test_a_missing_number_and_a_renamed_one_are_told():
    """Catches a cell that printed nothing, and a renamed line that leaves its old name unchecked in silence."""
    yours = {"accuracy": Quantity(0.57), "parameters": Quantity(103_232), "the loss": Quantity(1.9)}
    found = compare("5-practice/pretraining", yours, CPU, ours())
    (gone,) = found.outside
    assert (gone.name, gone.yours, gone.verdict, gone.words) == ("loss", None, UNEXPLAINED, "missing, unexplained")
    assert found.summary().endswith("1 unexplained, 1 not recorded")
    edited = compare("x", yours, CPU | {"chapter": "1"}, ours(circumstances=CPU | {"chapter": "2"}))
    assert edited.outside[0].words == "missing: the chapter's code has changed since ours was recorded"
    assert edited.unexplained == []


def test_a_number_measured_once_has_the_stated_tolerance():
    """Catches recorded runs at full scale, of which there is one each, without any band."""
    once = ours(values={"loss": [1.5], "parameters": [103_232.0], "accuracy": [0.57]})
    assert verdicts({"loss": 1.52}, reference=once).rows[0].verdict == IN
    assert verdicts({"loss": 1.54}, reference=once).rows[0].verdict == UNEXPLAINED
    assert verdicts({"parameters": 103_233}, reference=once).rows[1].verdict == UNEXPLAINED


def test_the_table_can_be_pasted():
    """Catches a pipe in a line of a chapter that breaks the Markdown."""
    band = Band.of([1.0])
    rows = [comparison.Row("a | b", 2.0, band, UNEXPLAINED, "outside, unexplained")]
    lines = comparison.table(rows).splitlines()
    assert len(lines) == 3
    assert r"a \| b" in lines[2]
    assert lines[0].split() == ["|", "number", "|", "yours", "|", "ours", "|", "band", "|", "verdict", "|"]


def test_settings_in_the_data_are_circumstances():
    """Catches ten times the steps reported as an unexplained loss."""
    data = {"training": {"steps": 10_000}, "corpus": "tinyshakespeare", "scale": "full", "loss": 1.0}
    told = settings(data)
    assert told == {"steps": "10000", "text": "tinyshakespeare", "scale": "full"}
    assert [d.cause.name for d in differences(told, {"steps": "500", "text": "plays", "scale": "full"})] == [
        "steps",
        "text",
    ]


def test_every_cause_has_a_name_of_its_own():
    """Catches a cause listed twice, or one that can never differ because two share a name."""
    names = [cause.name for cause in CAUSES]
    assert len(names) == len(set(names))
    assert len({cause.words for cause in CAUSES}) == len(names)
