"""Drawings: what is drawn is what was given, nothing is too small, cut or mute, and explorers of them work."""

import base64
import gzip
import json
import re
from html import unescape

import plotly.graph_objects as go
import pytest

from llmbook.figures import Drawing, FigureError, Panel, bars, predict, sweep
from llmbook.figures.drawing import words
from tests.figures.test_drawn import CHROMIUM, PHONE, WEB, seen


def markup(drawing):
    return drawing._repr_mimebundle_()["text/html"]


def blank(width=320, height=200, **more):
    return Drawing(width, height, alt="A drawing.", **more)


def test_numbers_of_the_page_stand_in_the_drawing():
    """Catches a label typed beside the value it should show, and an arrow whose width says something else."""
    widths = []
    for weight in (0.1, 0.4, 0.8):
        drawing = blank()
        drawing.arrow((10, 50), (200, 50), weight=weight, text=f"{weight:.2f}")
        svg = drawing.svg()
        assert f">{weight:.2f}</text>" in svg
        widths.append(float(re.search(r'stroke-width="([\d.]+)"', svg)[1]))
    assert widths == [0.8, 3.2, 6.4]


def test_a_clock_turns_as_told():
    """Catches a hand that turns the other way, starts elsewhere, or an arc on the wrong side."""
    for turns, end in ((0, (100, 65.6)), (0.25, (134.4, 100)), (0.5, (100, 134.4)), (1.75, (65.6, 100))):
        drawing = blank()
        drawing.clock(100, 100, 40, turns, arc=(0, 0.25))
        assert f"L{end[0]:.1f} {end[1]:.1f}" in drawing.svg()
        assert "M100 100L100.0 60.0A40 40 0 0 1 140.0 100.0Z" in drawing.svg()


def test_cells_are_tinted_by_their_numbers():
    """Catches tints in the order of another row, a sign that is lost, an empty cell that says None."""
    drawing = blank()
    places = drawing.cells(60, 40, [[0.5, -1.0], [None, "cat"]], rows=["a", "b"], columns=["x", "y"])
    found = re.findall(r'dr-cell dr-(\w+)" style="--tint:([\d.]+)', drawing.svg())
    assert found == [("blue", "0.250"), ("red", "0.500"), ("blue", "0.000"), ("blue", "0.000")]
    assert [text for text in re.findall(r">([^<>]+)</text>", drawing.svg())] == [
        *("0.50", "-1.00", "cat"),
        *("a", "b", "x", "y"),
    ]
    assert places[1][0].centre == (77, 79)


def test_boxes_connect_and_layers_stack():
    """Catches arrows that begin inside a box, and a stack built from the top."""
    drawing = blank()
    low, high = drawing.layers(20, 10, ["embed", "block"], width=90, height=30, gap=20, roles={"block": "blue"})
    assert (low.top, high.bottom) == ((65, 60), (65, 40))
    assert "M65.0 60.0L" in drawing.svg()
    assert [role for role in re.findall(r'dr-box dr-(\w+)"', drawing.svg())] == ["ink", "blue"]


def test_sub_and_superscripts():
    """Catches a letter left on the wrong line after a subscript, markup taken for text, names with an underscore."""
    assert words.markup("q_{1}·k^{T} < d_model", 10) == (
        'q<tspan dy="2.8" font-size="7.5">1</tspan><tspan dy="-2.8">·k</tspan>'
        '<tspan dy="-3.6" font-size="7.5">T</tspan><tspan dy="3.6"> &lt; d_model</tspan>'
    )
    assert words.plain("q_{1}\nk") == "q 1 k"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Drawing(100, 100, alt=" ", title="t"), "the drawing 't' has no alt text"),
        (lambda: blank().box(300, 10, 80, 20, "out"), "'out' reaches from (300, 10) to (380, 30), outside"),
        (lambda: blank().text(5, 50, "half of this is outside"), "outside the drawing of 320 × 200"),
        (lambda: blank().box(0, 0, 40, 20, "much too long"), "wide and has 36: break the line"),
        (lambda: blank(700).text(100, 50, "small"), "pixels high on a phone: make the drawing at most"),
        (lambda: blank().text(100, 50, "small", size=9), "pixels high on a phone"),
        (lambda: blank().box(0, 0, 40, 20, role="purple"), "role='purple'; the colours of a drawing are ink, soft"),
        (lambda: blank().text(50, 50, "x", role="blue"), "cannot be read on every background"),
        (lambda: blank().arrow((0, 0), (9, 9), weight=1.5), "an arrow's weight is 1.5; it lies between 0 and 1"),
        (lambda: blank().bar(0, 0, 50, -0.5), "a bar's share is -0.5"),
        (lambda: blank().brace((0, 0), (9, 9), "x"), "a brace is upright or level"),
    ],
)
def test_what_a_reader_could_not_read_is_refused(wrong, said):
    """Catches a drawing without description, cut at its edge, or in letters that no phone shows."""
    with pytest.raises(FigureError, match=re.escape(said)):
        wrong()


def test_a_wide_drawing_may_scroll():
    """Catches a wide drawing that is shrunk all the same, or that no keyboard can move."""
    drawing = blank(700, scroll=True)
    drawing.text(100, 50, "large enough")
    assert 'tabindex="0" style="--llm-least:700px"' in markup(drawing)


def test_every_panel_can_be_read_without_scripts():
    """Catches a box that leads nowhere, a panel only a script can show, two boxes that open the same one."""
    drawing = blank()
    for name in ("norm", "attention"):
        drawing.box(
            10, 20 if name == "norm" else 90, 120, 40, name, panel=Panel(name, {"shape": "[B, T, C]"}, code="x < y")
        )
    shown = markup(drawing)
    links = re.findall(r'<a class="dr-part" href="#([^"]+)" aria-label="(\w+)">', shown)
    listed = re.findall(r'<div id="([^"]+)"><p><strong>(\w+)</strong>', shown)
    assert links == listed
    assert len({name for name, _ in links}) == 2
    assert shown.count("<dt>shape</dt><dd>[B, T, C]</dd>") == 2
    assert "<pre><code>x &lt; y</code></pre>" in shown
    assert 'role="group" aria-label="A drawing."' in shown  # an image would hide its links from a screen reader
    assert 'role="img"' in markup(blank())


def draw(k, name):
    drawing = Drawing(200, 60, alt=f"k is {k}", title=f"{name} {k}", caption="Move it.")
    drawing.box(5, 5, 120, 40, f"{name} {k}", panel=Panel(f"{name} {k}"))
    return drawing


def test_an_explorer_of_drawings_holds_every_frame():
    """Catches frames in another order than the controls', and one that starts at another than it says."""
    shown = sweep(draw, {"k": [1, 2, 3], "name": ["a", "b"]}, title="t", start={"k": 2}).to_html()
    assert shown.startswith('<figure class="llm-figure" style="--llm-width:200px"')
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', shown)[1])
    frames = json.loads(gzip.decompress(base64.b64decode(data["blob"])))
    assert [one["alt"] for one in frames] == ["k is 1", "k is 1", "k is 2", "k is 2", "k is 3", "k is 3"]
    assert [one["svg"] for one in frames] == [draw(k, n).svg() for k in (1, 2, 3) for n in "ab"]
    assert [dial["at"] for dial in data["dials"]] == [1, 0]
    assert 'aria-label="k is 2"' in shown
    assert draw(2, "a").svg() in shown
    assert "a 2</strong>" in shown


def test_explorers_live_and_their_errors(monkeypatch):
    """Catches a live form that cannot show a drawing, a mixture of kinds, and words of the sweep that are lost."""
    mixed = {"fn": lambda k: draw(k, "a") if k < 3 else bars({"x": 1}, alt="b"), "grid": {"k": [1, 2, 3]}, "title": "t"}
    with pytest.raises(FigureError, match="a drawing at k=1, a plotly figure at k=3; return one kind"):
        sweep(**mixed)
    monkeypatch.setenv("LLMBOOK_STATIC", "0")
    live = sweep(draw, {"k": [1, 2, 3], "name": ["a", "b"]}, title="t", alt=lambda k, name: f"{name}{k}", caption="c")
    box = live.widget()
    box.children[1].value = 2
    frame = live.frame(k=3)
    assert (frame.alt, frame.caption) == ("a3", "c")


def test_a_prediction_opens_a_drawing(monkeypatch):
    """Catches a question that takes no drawing, or tries to draw a guess into one."""
    asked = predict("Which?", draw(1, "a"), options=["a", "b"], answer="a")
    assert draw(1, "a").svg() in unescape(asked.to_html())
    assert asked.marked(1) is asked.figures[0]
    explorer = sweep(draw, {"k": [1, 2, 3], "name": ["a", "b"]}, title="t")
    assert predict("Which?", explorer, options=["a", "b"], answer="a").marked(0) is explorer
    with pytest.raises(FigureError, match="give a plotly figure, a drawing or a sweep"):
        predict("Which?", "a drawing", options=["a", "b"], answer="a")
    with pytest.raises(FigureError, match="no alt text"):
        predict("Which?", go.Figure(), options=["a", "b"], answer="a")


IN_A_PAGE = """
const hold = document.body.appendChild(document.createElement("iframe"));
hold.contentDocument.open();
(async () => {
  const { mount } = await import(FIGURES), [single, moved] = document.querySelectorAll("figure.llm-figure");
  const rest = () => new Promise((done) => setTimeout(done, 200));
  await mount(single);
  await mount(moved);
  const label = (figure) => figure.querySelector(".llm-plot").getAttribute("aria-label");
  const panel = (figure) => figure.querySelector(".llm-panel").innerText.trim();
  const found = { states: [single.dataset.state, moved.dataset.state], before: [label(moved), panel(single)] };
  single.querySelector(".dr-part").focus();
  moved.querySelector(".dr-part rect").dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
  found.open = [panel(single), panel(moved), location.hash];
  const control = moved.querySelector("[data-dial]");
  control.value = "2";
  control.dispatchEvent(new Event("input", { bubbles: true }));
  await rest();
  found.after = [label(moved), panel(moved), moved.querySelector(".llm-svg text").textContent];
  moved.querySelector(".dr-part").focus();
  found.again = panel(moved);
  const text = single.querySelector("svg text"), box = single.querySelector(".llm-plot").getBoundingClientRect();
  found.seen = [getComputedStyle(text).fill, Math.round(text.getBoundingClientRect().height), box.width, box.height];
  document.body.dataset.found = JSON.stringify(found);
})().catch((error) => { document.body.dataset.found = JSON.stringify(String(error.stack)); })
  .finally(() => hold.contentDocument.close());
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install one, or name it in CHROME")
def test_a_drawing_in_a_page(tmp_path):
    """Catches a panel that opens by neither key nor click, one of the frame before, a control that moves nothing,
    letters that stay dark at night or are too small on a phone."""
    shown = markup(draw(1, "a")) + sweep(draw, {"k": [1, 2, 3], "name": ["a", "b"]}, title="t").to_html()
    night = "<style>:root { --pst-color-text-base: rgb(206, 214, 221) }</style>"
    script = f'<script>const FIGURES = "{(WEB / "figures.js").as_uri()}";{IN_A_PAGE}</script>'
    found = seen(tmp_path, f'{night}<div style="width:{PHONE}px">{shown}</div>{script}')
    assert found["states"] == ["figure", "explorer"]
    assert found["before"] == ["k is 1", ""]
    assert found["open"] == ["a 1", "a 1", ""]
    assert found["after"] == ["k is 3", "", "a 3"]
    assert found["again"] == "a 3"
    colour, height, *box = found["seen"]
    assert colour == "rgb(206, 214, 221)"
    assert height >= 14
    assert box == [200, 60]
