"""The rehearsal on a pretended GPU: what it runs, what it finds, and what it holds against a chapter's first line."""

import os

import pytest

from publishing import rehearsal
from publishing.rotation import share, today
from tests.publishing.conftest import chapter_cells, code, write_notebook


@pytest.fixture
def ran(monkeypatch) -> dict:
    """What a rehearsal would run, noted in place of the runs."""
    noted = {"cards": [], "quick": [], "full": []}
    monkeypatch.setattr(rehearsal, "unavailable", lambda: "")
    monkeypatch.setattr(rehearsal, "run_tests", lambda book, card: noted["cards"].append(card) or 0)
    monkeypatch.setattr(rehearsal, "quick", lambda book, names, card: noted["quick"].append((card, [*names])) or [])
    monkeypatch.setattr(rehearsal, "full", lambda book, path: noted["full"].append(path) or [])
    return noted


def test_everything_is_rehearsed_at_home(book, monkeypatch, ran, capsys):
    """Catches a card or a notebook that is never tried, and a rehearsal that could be taken for a measurement."""
    monkeypatch.delenv("CI", raising=False)
    assert rehearsal.run(book, book.notebooks[:1]) == 0
    some = book.notebooks[:1]
    quick = [("t4", list(book.notebooks)), ("a100", some)]
    assert ran == {"cards": ["t4", "a100"], "quick": quick, "full": some}
    assert "no real one was used" in capsys.readouterr().out


def test_ci_takes_turns(book, monkeypatch, ran):
    """Catches a CI that runs every notebook a second time, and full scale with it."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(rehearsal, "AT_A_TURN", 2)
    assert rehearsal.run(book, book.notebooks[:1]) == 0
    ((card, names),) = ran["quick"]
    assert (ran["cards"], len(names), ran["full"]) == ([card], 2, [])


def test_a_problem_is_the_exit_status(book, monkeypatch, ran, capsys):
    """Catches a failure that is printed and passes."""
    monkeypatch.setattr(rehearsal, "quick", lambda book, names, card: ["FAILED two/attention, cell 4"])
    assert rehearsal.run(book, []) == 1
    assert "FAILED two/attention, cell 4" in capsys.readouterr().out


def test_where_nothing_can_be_pretended_it_says_why(book, monkeypatch, ran, capsys):
    """Catches a rehearsal that did not take place and says nothing."""
    monkeypatch.setattr(rehearsal, "unavailable", lambda: "no C++ compiler: …")
    assert rehearsal.run(book, []) == 0
    assert "SKIPPED the rehearsal on a pretended GPU: no C++ compiler" in capsys.readouterr().out
    assert not any(ran.values())


def test_the_environment_is_as_before():
    """Catches a later stage that computes on a pretended GPU without knowing."""
    before = dict(os.environ)
    with rehearsal.pretending("a100", PRETENDED_GPU_STEPS="2"):
        assert os.environ["PRETENDED_GPU"] == "a100"
        assert os.environ["PYTHONPATH"].startswith(str(rehearsal.PRETENDED))
    assert dict(os.environ) == before


def test_a_notebook_that_fails_on_a_gpu_is_named_with_its_cell(book):
    """Catches a rehearsal whose kernels have no pretended GPU: every notebook would pass."""
    if reason := rehearsal.unavailable():
        pytest.skip(f"the pretended GPU cannot be had here: {reason}")
    fine = code('import torch\n\nassert torch.zeros(2, device="cuda").sum() == 0')
    left = code('(torch.zeros(2, device="cuda") + torch.zeros(2)).tolist()')
    source = write_notebook(book, "chapters/two/attention.ipynb", [*chapter_cells("Attention"), fine, left])
    (problem,) = rehearsal.quick(book, [source], "t4")
    assert "FAILED chapters/two/attention.ipynb, cell" in problem
    assert "same device" in problem
    assert left.source in problem


@pytest.mark.parametrize(
    ("says", "wrong"),
    [((10, 4), []), ((7, 4), ["7 min"]), ((10, 3), ["3 GB"]), ((40, 4), ["40 min"]), ((40, 20), ["40 min", "20 GB"])],
)
def test_a_first_line_is_held_against_what_was_counted(says, wrong):
    """Catches a promise that the counted operations do not keep, and one so wide that it promises nothing."""
    counted = {"seconds": {"t4": 9 * 60, "a100": 60}, "memory": 3.4e9}
    found = list(rehearsal.wrong_estimates("a chapter", {"T4": says}, counted))
    assert [words for words, problem in zip(wrong, found, strict=True) if words in problem] == wrong


def test_turns_reach_everything():
    """Catches a rotation that leaves one out for ever, or takes one twice at a turn."""
    names = list("abcdefg")
    turns = [share(names, 3, turn) for turn in range(100, 107)]
    assert all(len(set(turn)) == 3 for turn in turns)
    assert {name for turn in turns[:3] for name in turn} == set(names)
    assert sorted(name for turn in turns for name in turn) == sorted(names * 3)
    assert sorted(share(names, 30, 4)) == names
    assert today() > 700_000
    with pytest.raises(ValueError, match="count=0"):
        share(names, 0, 1)
