"""``check``: right answers are right, mistakes meet their hint, nonsense is told as such."""

import math

import pytest
import torch

from llmbook.exercises import AnswerError, Case, Exercise, Hint, UnknownExercise, asking, check, exercises, finding
from llmbook.exercises.__main__ import main

SCORES = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
WEIGHTS = (SCORES / 2).softmax(-1)


def attend(q, k):
    return (q @ k.T / math.sqrt(q.shape[-1])).softmax(-1)


def unscaled(q, k):
    return (q @ k.T).softmax(-1)


def trial(given, /, **exercise):
    """What is said to an answer of one exercise."""
    one = Exercise(**exercise)
    wrong = one.wrong(given)
    return None if wrong is None else f"{wrong} | {one.hint(given)}"


@pytest.mark.parametrize(
    ("answer", "exercise"),
    [
        (0.452, {"answer": 0.45}),
        (torch.tensor(0.45), {"answer": 0.45}),
        (0.5, {"between": (0.3, 0.6)}),
        (124_439_808, {"answer": 124_439_808}),
        (WEIGHTS.tolist(), {"answer": WEIGHTS, "tolerance": 0.005}),
        (WEIGHTS.numpy(), {"answer": lambda: WEIGHTS}),
        ([1, 2], {"answer": [1, 2]}),
        ({"a": 2, "b": torch.tensor([0.5])}, {"answer": {"a": 2, "b": [0.5]}}),
        ("  Softmax ", {"answer": "softmax", "options": ["softmax", "sigmoid"]}),
        ([0.0, -math.inf], {"answer": [0.0, -math.inf]}),
    ],
)
def test_a_right_answer_in_any_form(answer, exercise):
    """Catches a reader who is right and told otherwise: a tensor for a list, a number rounded, an infinity."""
    assert trial(answer, **exercise) is None


@pytest.mark.parametrize(
    ("answer", "exercise", "said"),
    [
        (0.46, {"answer": 0.45}, "0.46 is not it | "),
        (124_439_809, {"answer": 124_439_808}, "124,439,809 is not it | "),
        (0.7, {"between": (0.3, 0.6)}, "0.7 is not it | "),
        (45.0, {"answer": 0.45}, "per cent: give it as a part of one"),
        (-0.45, {"answer": 0.45}, "Only the sign is wrong"),
        (2 * math.log(2), {"answer": 2.0, "unit": "bits"}, "in nats: divide by ln 2"),
        (1 / math.log(2), {"answer": 1.0, "unit": "nats"}, "in bits: take the natural logarithm"),
        ([1, 3, 3], {"answer": [1, 2, 3]}, "3 is wrong at index 1"),
        (SCORES.softmax(0), {"answer": WEIGHTS, "hints": [Hint(SCORES.softmax(0), "axis")]}, "| axis"),
        (SCORES.softmax(-1), {"answer": WEIGHTS, "hints": [Hint(SCORES.softmax(-1), "root")]}, "| root"),
        (7, {"answer": 8, "hints": [Hint(lambda a: a == 7, "counted from 0")]}, "| counted from 0"),
        ({"a": 1}, {"answer": {"a": 2}}, "'a': 1 is not it"),
        ("sigmoid", {"answer": "softmax", "options": ["softmax", "sigmoid"]}, "'sigmoid' is not it"),
    ],
)
def test_a_mistake_is_named(answer, exercise, said):
    """Catches a tolerance that lets a mistake pass, and a hint that belongs to another one."""
    assert said in trial(answer, **exercise)


@pytest.mark.parametrize(
    ("answer", "exercise", "said"),
    [
        ("0.45", {"answer": 0.45}, "expected a number, got str '0.45'"),
        (True, {"answer": 1.0}, "expected a number, got bool True"),
        (math.nan, {"answer": 0.45}, "the answer holds NaN, not a number"),
        ([0.1, math.nan], {"answer": [0.1, 0.9]}, "holds NaN, not a number at index 1"),
        ([0.1], {"answer": [0.1, 0.9]}, "expected a sequence of 2 numbers, got a sequence of 1 numbers"),
        (WEIGHTS.T, {"answer": WEIGHTS}, "expected numbers of the shape (2, 3), got numbers of the shape (3, 2)"),
        ([[1], [1, 2]], {"answer": WEIGHTS}, "rows of different length"),
        ({"b": 1}, {"answer": {"a": 2}}, "the key 'a' is missing"),
        (3, {"answer": {"a": 2}}, "expected a dict with the keys 'a', got int 3"),
        ("tanh", {"answer": "relu", "options": ["relu", "gelu"]}, "expected one of 'relu', 'gelu', got str 'tanh'"),
        (None, {"answer": 0.45}, "expected a number, got NoneType None"),
        (print, {"answer": 0.45}, "expected a number, got builtin_function_or_method"),
        (0.4, {"build": attend, "cases": [Case("a", (SCORES, SCORES))]}, "expected a function, got float 0.4"),
        (math.nan, {"between": (0, 1)}, "holds NaN"),
    ],
)
def test_nonsense_is_no_wrong_answer(answer, exercise, said):
    """Catches an answer of the wrong kind that is called wrong, or ends in an error of numpy."""
    with pytest.raises(AnswerError) as raised:
        trial(answer, **exercise)
    assert said in str(raised.value)


def test_a_function_is_tried_on_cases():
    """Catches a build that passes without doing its work, a failing case not named, a mistake not recognised."""
    q, k = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.eye(4)

    def spoils(q, k):
        return attend(q.mul_(2).div_(2), k.zero_() + torch.eye(4))

    def keeps_rows(f):
        return None if torch.allclose(f(q.clone(), k.clone()).sum(-1), torch.ones(2)) else "a row does not sum to one"

    built = {
        "build": attend,
        "cases": [Case("two queries", (q, k)), Case("rows sum to one", test=keeps_rows)],
        "hints": [Hint(unscaled, "The division by √d is missing.")],
    }
    assert trial(attend, **built) is None
    assert trial(spoils, **built) is None
    told = trial(unscaled, **built)
    assert told.startswith("the case “two queries” fails: ")
    assert told.endswith("The division by √d is missing.")
    assert "rows sum to one” fails: a row does not" in trial(
        lambda q, k: q, **built | {"cases": [Case("rows sum to one", test=keeps_rows)]}
    )
    assert "it raised ZeroDivisionError" in trial(lambda q, k: 1 / 0, **built)
    assert "expected numbers of the shape (2, 4), got a number" in trial(lambda q, k: 0.0, **built)
    assert "expected numbers of the shape (2, 4), got NoneType None" in trial(lambda q, k: None, **built)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "has one of answer, between and build; this one has none"),
        ({"answer": 1, "between": (0, 1)}, "this one has .*answer.*between"),
        ({"build": attend}, "go together"),
        ({"answer": "tanh", "options": ["relu"]}, "'tanh' is none of the options"),
    ],
)
def test_a_definition_that_cannot_be_checked(wrong, said):
    """Catches an exercise that accepts anything because its author left something out."""
    with pytest.raises(ValueError, match=said):
        Exercise(**wrong)


def test_check_prints_and_never_raises(capsys):
    """Catches a check that ends in a traceback, says nothing, or shows `True` below what it has said."""
    assert check("2-concepts/transformer", 1, 124_439_808)
    assert capsys.readouterr().out == "✓ 2-concepts/transformer, exercise 1: right, 124,439,808.\n"
    for answer, start in ((5, "✗"), ("five", "?"), (..., "…"), (None, "…")):
        assert not check("transformer", 1, answer)
        assert capsys.readouterr().out.startswith(f"{start} 2-concepts/transformer, exercise 1: ")
    assert not check("transformer", 7, 1)
    assert "has no exercise 7; its exercises are 1, 2, 3." in capsys.readouterr().out
    assert not check("transformers", 1, 1)
    assert "no exercises for the chapter 'transformers'; there are some for" in capsys.readouterr().out
    assert not check(3, 1, 1)
    assert "the chapter is 3; expected a name such as" in capsys.readouterr().out
    assert asking.Verdict(True, "")._ipython_display_() is None


def test_a_name_of_two_chapters(monkeypatch):
    """Catches the exercises of the wrong one of two chapters that share a name."""
    monkeypatch.setattr(finding, "chapters", lambda: ["2-concepts/attention", "4-mathematics/attention"])
    assert finding.resolve("4-mathematics/attention") == "4-mathematics/attention"
    with pytest.raises(UnknownExercise, match="'2-concepts/attention' or '4-mathematics/attention'"):
        finding.resolve("attention")


def test_the_command_line(tmp_path, capsys):
    """Catches an exit status that a script cannot use, and a function's file that is not found or read."""
    mine = tmp_path / "mine.py"
    mine.write_text("def wrong(x, part):\n    return x\n")
    assert main(["transformer", "1", "124_439_808"]) == 0
    assert main(["transformer", "1", "12"]) == 1
    assert main(["transformer", "3", f"{mine}:wrong"]) == 1
    assert "the case “five tokens” fails" in capsys.readouterr().out
    assert main(["transformer", "3", f"{mine}:right"]) == 2
    assert main(["transformer", "3", f"{mine}s.py:right"]) == 2
    assert main(["nothing", "3", "1"]) == 2
    assert "defines no 'right'" in capsys.readouterr().err
    assert main(["transformer", "1"]) == main(["transformer"]) == main([]) == 0
    assert "2-concepts/transformer" in capsys.readouterr().out


HOMES = [(chapter, number) for chapter in finding.chapters() for number in exercises(chapter)]


@pytest.mark.parametrize(("chapter", "number"), HOMES)
def test_every_exercise_knows_its_answer_and_its_mistakes(chapter, number):
    """Catches a right answer that is not accepted, a mistake that is, and a hint that another one hides."""
    one = exercises(chapter)[number]
    assert one.hints, "no usual mistake is known"
    if one.between:
        assert one.wrong(sum(one.between) / 2) is None
    else:
        assert one.wrong(one.build or one.right) is None
    for hint in one.hints:
        if one.build or not callable(hint.when):
            assert one.wrong(hint.when) is not None, hint.says
            assert one.hint(hint.when) == hint.says
        assert hint.says.endswith((".", "?", "`.")), hint.says


def test_every_chapter_has_three(tmp_path):
    """Catches a chapter whose exercises are not numbered 1, 2, 3."""
    assert {chapter: list(exercises(chapter)) for chapter in finding.chapters()} == {
        chapter: [1, 2, 3] for chapter in finding.chapters()
    }
