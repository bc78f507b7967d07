"""Nothing that passes or fails depends on a clock: neither a chapter nor a test."""

import ast

import pytest

from publishing.book import ROOT
from publishing.clocks import Clocks
from publishing.contract import problems


def found(*cells, checked=False):
    clocks = Clocks()
    return [what for cell in cells for what in clocks.read(ast.parse(cell), checked=checked)]


BEGIN = "import time\nstart = time.perf_counter()"
TAINTED = [
    "assert time.perf_counter() - start < 1",
    "took = time.perf_counter() - start\nassert took < 1",
    "took = {}\ntook['a'] = time.perf_counter() - start\nbest = min(took.values())\nassert best < 1",
    "times = []\nfor _ in range(3):\n    times.append(time.perf_counter() - start)\nassert min(times) < 1",
    "def measure():\n    return time.process_time()\nassert measure() < 1",
    "a, b = time.time(), 1\nassert a > 0",
    "from time import monotonic as now\nassert now() > 0",
    "from datetime import datetime\nassert datetime.now().year > 2000",
    "assert trainer.run().seconds[-1] < 100",
    "history = run()\nassert history.seconds[-1] < 100",
    "from llmbook.training.autotune import compare\nshare = compare(ways)\nassert share[0] < 1",
    "if (took := time.perf_counter() - start) > 0:\n    assert took < 1",
    "for n in range(3):\n    if n:\n        assert last < 1\n    last = time.time()",
    "with open('x') as f:\n    assert time.time() > 0",
    "def check():\n    assert time.time() > 0",
    "class A:\n    def check(self):\n        assert time.time() > 0",
]
CLEAN = [
    "assert 1 < 2",
    "took = time.perf_counter() - start\nprint(took)",
    "took = time.perf_counter() - start\ntook = 3\nassert took == 3",
    "took, loss = time.perf_counter() - start, 3\nassert loss == 3",
    "for title, values in (('s', start), ('MiB', memory)):\n    assert title",
    "times = [time.time()]\ndef mean(times):\n    return sum(times)\nassert mean([1]) == 1",
    "by = time.time()\nassert sum(by for by in [1, 2]) == 3",
    "loss = train()\nseconds = time.time() - start\nassert loss < 3",
]


@pytest.mark.parametrize("cell", TAINTED)
def test_a_measured_time_is_followed_to_the_assertion(cell):
    """Would catch a chapter that fails because another program ran beside it, by whatever way the time got there."""
    assert len(found(BEGIN, cell)) == 1


@pytest.mark.parametrize("cell", CLEAN)
def test_what_does_not_come_from_a_clock_is_let_pass(cell):
    """Would catch a checker that authors learn to write around, for it forbids assertions that are sound."""
    assert found(BEGIN, cell) == []


def test_a_checked_output_must_not_depend_on_a_clock():
    """Would catch the same failure by way of a printed line; an unchecked one may say what it likes."""
    cell = "print('fast:', time.perf_counter() - start < 1)"
    assert found(BEGIN, cell) == []
    assert found(BEGIN, cell, checked=True) == ["prints time.perf_counter() - start < 1"]
    assert found(BEGIN, "start", checked=True) == ["shows start"]


def test_the_contract_names_the_cell(book, author):
    """Would catch a checker that `make check` does not ask."""
    path = book.notebooks[0]
    author.edit(path, "c3", source="import time\n\nbegan = time.time()\nvalue = 42")
    assert problems(book, path) == []
    author.edit(path, "c6", source="assert time.time() - began < 5")
    (problem,) = [one for one in problems(book, path) if "clock" in one]
    assert "cell 8 (id c6) asserts time.time() - began < 5, which depends on a clock" in problem


def test_no_test_asserts_on_a_clock():
    """Would catch a test that fails on a busy machine: a limit belongs into a timeout that is long, or nowhere."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        clocks = Clocks(measured=frozenset())
        told = list(clocks.read(ast.parse(path.read_text(encoding="utf-8")), checked=False))
        assert told == [], f"{path.relative_to(ROOT)} {told}"
