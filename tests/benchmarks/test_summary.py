"""The arithmetic of the benchmarks and the tables made from it. Nothing here is timed."""

import pytest

from benchmarks import record, table
from benchmarks.quality import equal_time_steps, publish_ladder, tables
from benchmarks.summary import markdown, show, speeds, spread
from llmbook import results
from llmbook.results import recorded

BASE, OURS = "nanoGPT-style, fp32", "ours, GPT-2, as chosen"


def test_a_ratio_is_that_of_a_pair():
    """Catches dividing medians by medians: in every pair ours is twice the base, whatever the machine did."""
    base = [{"work": 10, "seconds": s, "cpu_seconds": 1, "foreign": 0.0} for s in (1, 10, 2)]
    ours = [{"work": 40, "seconds": s, "cpu_seconds": 1, "foreign": 0.5} for s in (2, 20, 4)]
    samples = {"base": list(zip(base, base, strict=True)), "ours": list(zip(base, ours, strict=True))}
    first, second = speeds(samples, clock="seconds")
    assert first["name"] == "ours", "the fastest comes first"
    assert first["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert first["rate"] == {"median": 10.0, "low": 2.0, "high": 20.0}
    assert second["rate"]["median"] == 5.0
    assert second["ratio"]["median"] == 1.0
    assert first["foreign"] == 0.5


def test_the_clock_asked_for_is_the_one_divided_by():
    """Catches a CPU-time table computed from wall time."""
    sample = {"work": 6, "seconds": 1, "cpu_seconds": 3, "foreign": 0}
    assert speeds({"a": [(sample, sample)]}, clock="cpu_seconds")[0]["rate"]["median"] == 2


def test_a_range_holds_the_middle_half():
    """Catches one disturbed round of many stretching the range, and quartiles invented from three seeds."""
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert spread([1.0, 5.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 5.0}


def test_markdown_is_a_table_and_refuses_ragged_rows():
    """Catches a cell in the wrong column."""
    assert markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
    with pytest.raises(ValueError, match="a row has 1 cells, the header 2"):
        markdown(["a", "b"], [["x"]])


def test_a_range_is_shown_around_its_median():
    """Catches a mean in place of the median, thousands without separators, and a range of one value."""
    assert show(spread([1000.0, 2000.0, 9000.0]), 0) == "2,000 (1,000–9,000)"
    assert show(spread([2.0]), 1) == "2.0"


def test_equal_time_gives_a_faster_contender_more_steps():
    """Catches the inverse ratio: twice as fast is twice the steps, and the base itself is not run again."""
    rows = [{"name": name, "ratio": {"median": ratio}} for name, ratio in ((BASE, 1.0), (OURS, 2.0), ("other", 3.0))]
    assert equal_time_steps({"rows": rows}, 2000) == {OURS: 4000}
    assert equal_time_steps(None, 2000) == {}


def test_quality_keeps_the_two_budgets_and_the_rungs_apart():
    """Catches averaging runs of both budgets, and a rung compared with another than the one below it."""
    runs = [
        {"name": BASE, "steps": 10, "loss": 2.0},
        {"name": OURS, "steps": 10, "loss": 1.8},
        {"name": OURS, "steps": 10, "loss": 1.6},
        {"name": OURS, "steps": 20, "loss": 1.5},
        {"name": "ours, GPT-2, learning rate", "steps": 10, "loss": 1.5},
    ]
    contenders, ladder = tables({"steps": 10, "text": "a text", "runs": runs})
    assert f"| {OURS} | 1.700 (1.600–1.800) | 1.500 |" in contenders
    assert f"| {BASE} | 2.000 | 2.000 |" in contenders
    assert "| + learning rate 3e-3 | 1.500 | -0.200 |" in ladder
    assert "| validation loss on a text |" in contenders
    assert "| loss on a text |" in ladder


def test_the_ladder_reaches_its_chapter(tmp_path, monkeypatch):
    """Catches runs of the other budget among a rung's seeds, and a ladder without its origin."""
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    runs = [{"name": OURS, "steps": steps, "loss": loss} for steps, loss in ((10, 1.8), (20, 1.5), (10, 1.6))]
    publish_ladder(runs, 10, "a text")
    ladder = results.load("ladder")
    assert ladder.data["rungs"] == [["GPT-2 preset, nanoGPT's recipe", [1.8, 1.6]]]
    assert "benchmarks quality" in ladder.command
    assert ladder.data["about"].startswith("a text, ")


def test_only_what_stands_between_the_markers_is_rewritten(tmp_path, monkeypatch):
    """Catches a table that eats the text around it, or grows with every run."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    monkeypatch.setattr(table, "sections", lambda: "new")
    for _ in range(2):
        table.rewrite(readme)
        assert readme.read_text() == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    readme.write_text("no markers")
    with pytest.raises(ValueError, match=r"README\.md has no <!-- benchmarks:begin"):
        table.rewrite(readme)


def test_every_result_there_is_has_its_table(tmp_path, monkeypatch):
    """Catches a table that needs all results, one that mixes up the sizes, and numbers without their origin."""
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    assert table.sections() == ""
    sample = {"work": 100, "seconds": 1.0, "foreign": 0.0, "note": "cpu, float32: no GPU; as measured"}
    faster = {**sample, "work": 150}
    pairs = {BASE: [(sample, sample)], "ours, GPT-2, as chosen": [(sample, faster)]}
    speed = {"about": "a size", "base": BASE, "unit": "tokens/s", "settings": {"threads": 2, "n_rounds": 1}}
    record.save("train-small", {**speed, "rows": speeds(pairs, clock="seconds"), "failures": {"x": "no compiler"}})
    rows = speeds({"y": pairs[BASE]}, clock="seconds")
    record.save("decode", {**speed, "base": "y", "text": "a text", "rows": rows, "failures": {}})
    text = table.sections()
    assert "| ours, GPT-2, as chosen | 1.50 | 150 |" in text
    assert f"| {BASE} | 1.00 | 100 |" in text
    assert "| x | no compiler | – |" in text
    assert "- ours, GPT-2, as chosen, small: as measured" in text
    assert "| bits per byte of a text |" in text
    assert "| y | 1.00 | 100 | cpu, float32: no GPU; as measured |" in text
    assert "2 threads, 1 interleaved rounds; others used 0.00 cores" in text
    assert not list(tmp_path.glob(".*"))
