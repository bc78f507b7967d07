"""The rules of evidence: what a chapter leaves unproved is said, what it proves is left alone."""

import nbformat
import pytest

from publishing.evidence import problems

CHAPTER = "2-concepts/attention"


def notebook(*cells):
    made = nbformat.v4.new_notebook()
    for source, tags, printed in cells:
        if tags is None:
            made.cells.append(nbformat.v4.new_markdown_cell(source))
            continue
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        cell.outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
        made.cells.append(cell)
    return made


def exercise(number, chapter=CHAPTER):
    return [
        (f'check("{chapter}", {number}, ...)', [], ""),
        (f'answer = 3\nassert check("{chapter}", {number}, answer)', ["hide-cell"], ""),
    ]


THREE = [*exercise(1), *exercise(2), *exercise(3)]


def said(*cells):
    return list(problems(CHAPTER, notebook(*cells)))


def test_what_is_proved_is_left_alone():
    """Catches a rule that refuses numbers beside a verdict, a printed mask, or a chapter that draws nothing."""
    printed = "0.43 (0.3 to 0.6): yes\n[[True, False]]\nmask tensor([True, False])\nallowed: True for 3 of 5\n"
    assert said(("print()", ["nbval-check-output"], printed), *THREE) == []
    assert said(("torch.manual_seed(0)", [], ""), ("Three seeds each.", None, ""), *THREE) == []


@pytest.mark.parametrize(
    "line", ["sums to one: True", "False", "costs: [True, False, True]", "x = True.", "falls: yes"]
)
def test_a_bare_verdict(line):
    """Catches a checked output that keeps the number from the reader."""
    (told,) = said(("print()", ["nbval-check-output"], f"0.43\n{line}\n"), *THREE)
    assert f"prints a bare verdict, {line!r}" in told


def test_seeds_are_stated():
    """Catches a result from one seed that no text calls so."""
    (told,) = said(("torch.manual_seed(0)", [], ""), ("A result.", None, ""), *THREE)
    assert "no text says from how many seeds" in told


def test_exercises_are_checked():
    """Catches a solution that no longer answers its exercise, one that never asks, and a check of another chapter."""
    assert [told.split(":")[0] for told in said(*THREE[:-1])] == ["exercise 3 is not checked"]
    assert [told.split(":")[0] for told in said(*THREE[1:])] == ["exercise 1 asks nothing"]
    bare = ('check("2-concepts/attention", 3, answer)', ["hide-cell"], "")
    assert "exercise 3 is not checked" in said(*THREE[:-1], bare)[0]
    assert "checks '2-concepts/tokens': in this chapter it is" in said(*THREE, *exercise(3, "2-concepts/tokens"))[0]
