"""``predict``: what may be asked, the line that says how near a guess was, and the same line in the page."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from llmbook.figures import FigureError, Prediction, bars, curves, payload, predict, sweep

WEB = Path(__file__).resolve().parents[2] / "web"
FIGURE = bars({"counts": 1.2, "attention": 1.5}, alt="two bars")
LINE = curves({"found": ([1, 4, 16], [0.0, 0.5, 1.0])}, alt="a line")
PICK = {"options": ["counts", "attention", "neither"], "answer": "attention"}
PLACE = {"between": (1, 256), "log": True, "answer": (16, 64), "unit": "copies", "mark": "x"}
FLAT = {"between": (0, 100), "answer": 40, "band": 5, "unit": "%"}
DRAW = {"between": (0, 1), "over": [1, 4, 16], "answer": [0, 0.5, 1], "band": 0.1}
THOUSANDS = {"between": (0, 20_000), "answer": (1_000, 12_345.5), "unit": "tokens"}
GUESSES = [
    (PICK, 1, "You said: attention. Measured: the same."),
    (PICK, 0, "You said: counts. Measured: attention."),
    ({**PICK, "answer": ["counts", "attention"]}, 2, "You said: neither. Measured: counts or attention."),
    (PLACE, 64, "You said 64 copies; measured 16 to 64 copies: within."),
    (PLACE, 5, "You said 5 copies; measured 16 to 64 copies: below by a factor of 3.2."),
    (PLACE, 256, "You said 256 copies; measured 16 to 64 copies: above by a factor of 4."),
    (FLAT, 51.0, "You said 51%; measured 35 to 45%: above by 6%."),
    (FLAT, 0.00125, "You said 0.00125%; measured 35 to 45%: below by 35%."),
    (THOUSANDS, 15_000, "You said 15,000 tokens; measured 1,000 to 12,346 tokens: above by 2,655 tokens."),
    (DRAW, [0.05, 0.5, 0.95], "Your line agrees with what was measured at 3 of 3 places."),
    (
        DRAW,
        [0.5, 0.45, 0.7],
        "Your line agrees with what was measured at 1 of 3 places, and is farthest off at 1, where it lies above 0 to "
        "0.1.",
    ),
]


@pytest.mark.parametrize(("asked", "guess", "words"), GUESSES)
def test_one_line_says_how_near_it_was(asked, guess, words):
    """Catches "within" for a guess outside the band, the wrong side, and a distance from the wrong end."""
    figure = LINE if "over" in asked else FIGURE
    assert predict("How?", figure, **asked).verdict(guess) == words


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the page's script without a page")
def test_the_page_says_the_same_words(tmp_path):
    """Catches a page and a notebook that judge the same guess differently."""
    shutil.copy(WEB / "predict.js", tmp_path / "predict.mjs")
    (tmp_path / "ask.mjs").write_text(
        'import { verdict, fits } from "./predict.mjs"; import { readFileSync } from "node:fs";\n'
        "const said = JSON.parse(readFileSync(process.argv[2])).map(([spec, guess]) => [verdict(spec, guess).text, "
        "fits(spec, guess)]);\nconsole.log(JSON.stringify(said));"
    )
    asked = [predict("How?", FIGURE, **given).question.spec() for given, _, _ in GUESSES]
    cases = [[spec, guess] for spec, (_, guess, _) in zip(asked, GUESSES, strict=True)]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(["node", "ask.mjs", "cases.json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[words, True] for _, _, words in GUESSES]


BAD = [
    ({"options": ["a"], "answer": "a"}, "options=.'a'.; give two or more"),
    ({"options": ["a", "a"], "answer": "a"}, "all different"),
    ({"options": ["a", "b"], "answer": "c"}, "the answer 'c' is not one of"),
    ({"options": ["a", "b"], "answer": []}, "the answer is an empty list"),
    ({"options": ["a", "b"], "answer": "a", "between": (0, 1)}, "either options=.* or between="),
    ({"answer": 1}, "either options=.* or between="),
    ({"options": ["a", "b"], "answer": "a", "over": [1, 2]}, "over= belongs to a line"),
    ({"between": (1, 1), "answer": 1, "band": 1}, "the axis needs low < high"),
    ({"between": (0, 1), "log": True, "answer": 1, "band": 1}, "the axis needs 0 < low < high"),
    ({"between": "ab", "answer": 1}, "give the two ends of the axis"),
    ({"between": (0, 1), "answer": 0.5}, "without a band"),
    ({"between": (0, 1), "answer": (0.7, 0.2)}, r"give a number or \(low, high\)"),
    ({"between": (0, 1), "answer": float("nan"), "band": 0.1}, r"give a number or \(low, high\)"),
    ({"between": (0, 1), "answer": 5, "band": 0.1}, "outside the axis"),
    ({"between": (0, 1), "answer": 0.5, "band": 0.1, "mark": "z"}, "mark='z'"),
    ({"between": (0, 1), "over": [1, 2], "answer": [0.5], "band": 0.1}, "1 answers for 2 places"),
    ({"between": (0, 1), "over": [1, 1], "answer": [0.5, 1], "band": 0.1}, "all different"),
    ({"between": (0, 1), "over": [1, 2], "answer": [0.5, 7], "band": 0.1}, "the answer at 2 is 7, outside the axis"),
]


@pytest.mark.parametrize(("asked", "message"), BAD)
def test_what_does_not_fit_is_named_with_its_question(asked, message):
    """Catches a question that no reader could answer, or that calls every answer wrong."""
    with pytest.raises(FigureError, match=message) as error:
        predict("How far?", FIGURE, **asked)
    assert "'How far?'" in str(error.value)


@pytest.mark.parametrize(("figure", "what"), [("figure.png", "the figure is str"), ([], "no figure")])
def test_only_figures_answer(figure, what):
    """Catches a prediction that opens nothing."""
    with pytest.raises(FigureError, match=what):
        predict("How?", figure, **PICK)


def test_an_empty_question_is_refused():
    """Catches a form that asks nothing."""
    with pytest.raises(FigureError, match="the question is empty"):
        predict(" ", FIGURE, **PICK)


def spec_of(markup):
    return json.loads(re.search(r'class="llm-spec">(.*?)</script>', markup, re.DOTALL)[1])


@pytest.mark.parametrize("asked", [PICK, PLACE, FLAT, DRAW])
def test_the_page_carries_question_form_and_figure(asked):
    """Catches a form without a control, a question that could close its script, and a figure that lost its data."""
    question = "Is a < b & c > d? </script>"
    markup = predict(question, LINE, **asked).to_html()
    assert spec_of(markup)["question"] == question
    assert "Is a &lt; b &amp; c &gt; d? &lt;/script&gt;" in markup
    assert "<fieldset disabled" in markup  # until the script can answer
    wanted = {"options": 3, "over": 3}
    controls = len(re.findall(r"<input type=\"(?:radio|range)\"", markup))
    assert controls == next((n for name, n in wanted.items() if name in asked), 1)
    frame = re.search(r'<script type="application/json">(.*?)</script>', markup, re.DOTALL)[1]
    assert len(payload.unpack(json.loads(frame))[0]["data"]) == 1
    assert len(markup) - len(frame) < 4_000


def test_several_figures_open_together():
    """Catches a recorded run beside the live one that answers before it is asked."""
    both = predict("How?", [FIGURE, sweep(lambda k: LINE, {"k": [1, 2]}, title="t")], **PICK)
    markup = both.to_html()
    assert markup.count('<figure class="llm-figure"') == 2
    assert markup.index("llm-answer") < markup.index("<figure")


def test_another_wording_is_another_question_and_another_answer_is_not():
    """Catches a guess that is lost when a chapter is run again, or that is kept for a question it never answered."""
    first = predict("How?", FIGURE, **PICK).question.id
    assert predict("How?", LINE, **{**PICK, "answer": "counts"}).question.id == first
    assert predict("How many?", FIGURE, **PICK).question.id != first
    assert predict("How?", FIGURE, **{**PICK, "options": ["counts", "attention"]}).question.id != first


def controls(box):
    """Heading, controls, buttons, line of words and output of the live form."""
    heading, *given, buttons, words, output = box.children
    return heading, given, buttons.children, words, output


def shown(monkeypatch):
    """What the live form displays from here on."""
    seen = []
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: seen.extend(things))
    return seen


@pytest.mark.parametrize(
    ("asked", "values", "words", "marks"),
    [
        (PICK, [1], "You said: attention", 0),
        (PLACE, [5.0], "measured 16 to 64 copies: below by a factor of 3.21", 0),
        (DRAW, [0.5, 0.5, 0.5], "at 1 of 3 places", 1),
    ],
)
def test_the_live_form_opens_with_the_guess_in_it(asked, values, words, marks, monkeypatch):
    """Catches a figure that opens before its question is answered, or without the guess."""
    seen = shown(monkeypatch)
    prediction = predict("How?", LINE, **asked)
    _, given, (show, _), told, _ = controls(prediction.widget())
    assert seen == []
    for control, value in zip(given, values, strict=True):
        control.value = min((v for _, v in control.options), key=lambda v: abs(v - value))
    show.click()
    assert words in told.value
    (figure,) = seen
    assert len(figure.data) == len(LINE.data) + marks
    assert len(figure.layout.shapes) == len(LINE.layout.shapes) + (asked.get("mark") == "x")


def test_the_live_form_can_be_opened_without_a_guess(monkeypatch):
    """Catches a reader who is locked out, and a choice that counts before it is made."""
    seen = shown(monkeypatch)
    _, _, (show, skip), told, _ = controls(predict("How?", FIGURE, **PICK).widget())
    show.click()
    assert told.value == "Choose one of the answers first."
    assert seen == []
    skip.click()
    assert "without a guess" in told.value
    assert seen == [FIGURE]


def test_a_guess_is_drawn_into_every_frame_of_a_sweep():
    """Catches a guess that is gone once a control is moved, and a figure that keeps a guess for good."""
    moved = sweep(lambda k: curves({"y": ([1, 4, 16], [0, 0, k])}, alt="a"), {"k": [0.5, 1]}, title="t")
    marked = predict("How?", moved, **DRAW).marked([0, 0.2, 0.4])
    assert [len(marked.frame(k=k).data) for k in (0.5, 1)] == [2, 2]
    assert len(moved.frame(k=1).data) == 1


def test_the_chosen_name_is_marked():
    """Catches a choice that cannot be found in the figure it opens."""
    names = predict("How?", FIGURE, **PICK).marked(1).layout.yaxis.ticktext
    assert list(names) == ["counts", "<b>▸ attention</b>"]
    assert isinstance(predict("How?", FIGURE, **PICK), Prediction)
