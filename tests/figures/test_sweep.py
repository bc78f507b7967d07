"""``sweep``: the same numbers live and static, and errors that name the parameter values."""

import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from llmbook.figures import FigureError, Sweep, attention_map, bars, curves, heatmap, payload, sweep

TOKENS = ["the", "cat", "the"]


def weights(temperature, mask):
    scores = torch.arange(9.0).reshape(3, 3).sin() / temperature
    allowed = torch.ones(3, 3).tril().bool() if mask == "causal" else torch.ones(3, 3).bool()
    return torch.softmax(scores.masked_fill(~allowed, -torch.inf), -1), allowed


def draw(temperature, mask):
    w, allowed = weights(temperature, mask)
    return attention_map(w, TOKENS, mask=allowed, alt=f"weights at {temperature}", title=f"T = {temperature}")


GRID = {"temperature": [0.1, 1.0, 10.0], "mask": ["none", "causal"]}


def embedded(markup):
    """The JSON that the page's script reads."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', markup, re.DOTALL)[1])


def test_every_static_frame_holds_what_the_function_computes():
    """Catches frames in another order than the dials', and numbers lost on the way to the page."""
    explorer = sweep(draw, GRID, title="t")
    frames = payload.unpack(embedded(explorer.to_html()))
    assert len(frames) == 6
    combinations = [(t, m) for t in GRID["temperature"] for m in GRID["mask"]]
    for (temperature, mask), frame in zip(combinations, frames, strict=True):
        w, allowed = weights(temperature, mask)
        expected = torch.where(allowed, w, torch.nan).numpy()
        np.testing.assert_allclose(frame["data"][1]["z"], expected, atol=1e-4)
        assert frame["layout"]["meta"]["alt"] == f"weights at {temperature}"
        assert frame["layout"]["xaxis"]["ticktext"] == TOKENS


def test_live_and_static_show_the_same_numbers(monkeypatch):
    """Catches two code paths that compute differently: the widget's figure is compared with the decoded page."""
    static = payload.unpack(embedded(sweep(draw, GRID, title="t").to_html()))
    monkeypatch.setenv("LLMBOOK_STATIC", "0")
    live = sweep(draw, GRID, title="t")
    for (_, fig), frame in zip(live.frames(), static, strict=True):
        np.testing.assert_allclose(np.array(payload.plain(fig)["data"][1]["z"]), frame["data"][1]["z"], atol=1e-4)


def test_the_live_form_redraws_on_a_change(monkeypatch):
    """Catches a control that is not connected, or hands the index to the function instead of the value."""
    monkeypatch.setenv("LLMBOOK_STATIC", "0")
    seen = []

    def fn(k, mode):
        seen.append((k, mode))
        return curves({"y": [k, 2 * k, 3]}, alt="line")

    box = sweep(fn, {"k": [1, 2, 3], "mode": ["a", "b"]}, title="t", start={"k": 2}).widget()
    slider, menu = box.children[1], box.children[2]
    assert (type(slider).__name__, type(menu).__name__) == ("SelectionSlider", "Dropdown")
    slider.value = 2
    menu.value = 1
    assert seen == [(2, "a"), (3, "a"), (3, "b")]


def test_a_frame_is_computed_once_live(monkeypatch):
    """Catches a model run again whenever the reader moves back."""
    monkeypatch.setenv("LLMBOOK_STATIC", "0")
    calls = []
    live = sweep(lambda k: calls.append(k) or curves({"y": [k, 1]}, alt="a"), {"k": [1, 2]}, title="t")
    live.frame(k=2)
    live.frame(k=2)
    assert calls == [1, 2]


def test_alt_may_depend_on_the_parameters_and_the_page_starts_where_asked():
    """Catches a page whose first description belongs to another frame than the one drawn."""
    explorer = sweep(
        lambda k: curves({"y": [k, 1]}, alt="own", title=f"title {k}"),
        {"k": [1, 2, 3]},
        title="t",
        alt=lambda k: f"k is {k}",
        start={"k": 3},
        caption="move it",
    )
    markup = explorer.to_html()
    assert 'role="img" aria-label="k is 3"' in markup
    assert '<p class="llm-subtitle">title 3</p>' in markup
    assert [f["layout"]["meta"]["alt"] for f in payload.unpack(embedded(markup))] == ["k is 1", "k is 2", "k is 3"]
    assert "move it" in markup
    assert embedded(markup)["dials"][0]["at"] == 2


def test_every_control_is_native_and_labelled():
    """Catches a control a screen reader cannot name or a slider that says an index for a value."""
    markup = sweep(draw, GRID, title="t", labels={"temperature": "τ & <scale>"}, start={"temperature": 1.0}).to_html()
    assert '<label><span>τ &amp; &lt;scale&gt;</span><input type="range"' in markup
    assert 'aria-valuetext="1"' in markup
    assert '<label><span>mask</span><select data-dial="1"' in markup
    assert 'aria-live="polite"' in markup


def test_values_that_print_alike_are_told_apart():
    """Catches two positions of a slider that show the same text."""
    explorer = sweep(lambda k: curves({"y": [k, 1]}, alt="a"), {"k": [1.00001, 1.00002, 2.0]}, title="t")
    assert len(set(explorer.dials()[0]["options"])) == 3


def test_texts_cannot_close_the_script():
    """Catches a token such as </script> that would end the data in the middle of the page."""
    fig = heatmap([[1.0, 2]], x=["</script>", "<!--"], alt="</script><b>")
    markup = sweep(lambda k: fig, {"k": [1, 2]}, title="</figure>").to_html()
    assert markup.count("</script>") == 1
    assert markup.count("</figure>") == 1
    assert embedded(markup)["fig"]["layout"]["meta"]["alt"] == "</script><b>"


def test_the_page_is_the_same_twice():
    """Catches a time stamp or a random order: every build would change every page."""
    assert sweep(draw, GRID, title="t").to_html() == sweep(draw, GRID, title="t").to_html()


def test_ticks_set_in_the_frames_arrive_as_they_are():
    """Catches ticks refused where plotly keeps the array of one frame and the list of another, ticks rounded on a
    logarithmic axis, and frames that may not have ticks of their own."""
    marks = [256, 512, 1024, 2048, 4096, 8192]
    tiny = [1e-7, 3.3e-5, 0.0123, 4.5]

    def padded(k):
        x = [*marks[: 6 - k], *[marks[-1]] * k]
        return curves({"y": (x, x)}, alt="a", log_x=True).update_xaxes(tickvals=marks, ticktext=list("abcdef"))

    def own(k):
        chosen = np.array(tiny[: k + 2])
        fig = curves({"y": (tiny, tiny)}, alt="a", log_x=True)
        return fig.update_xaxes(tickvals=chosen, ticktext=[str(v) for v in chosen])

    for fn, expected in ((padded, [marks] * 3), (own, [tiny[:2], tiny[:3], tiny])):
        frames = payload.unpack(embedded(sweep(fn, {"k": [0, 1, 2]}, title="t").to_html()))
        assert [frame["layout"]["xaxis"]["tickvals"] for frame in frames] == expected
        assert all(len(f["layout"]["xaxis"]["ticktext"]) == len(e) for f, e in zip(frames, expected, strict=True))


def test_the_page_keeps_room_for_the_highest_frame():
    """Catches names of bars that need more lines in a later frame than in the first, whose height the page takes."""
    names = ["short", "a name that needs a second line"]
    explorer = sweep(lambda k: bars({names[k]: 1.0, "b": 2.0}, alt="a"), {"k": [0, 1]}, title="t")
    highest = explorer.frame(k=1).layout.height
    assert highest > explorer.frame(k=0).layout.height
    assert f'style="--llm-height:{highest}px;--llm-narrow:{highest}px"' in explorer.to_html()


LINE = staticmethod(lambda **_: curves({"y": [1, 2]}, alt="a")).__func__


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({}, {}, "the grid is empty"),
        ({"k": []}, {}, "'k' has no values"),
        ({"k": "abc"}, {}, "values of 'k' are 'abc'; give a list"),
        ({"k": 3}, {}, "values of 'k' are 3; give a list"),
        ({"k": [1, 2, 1]}, {}, "'k' has the value 1 twice"),
        ({"k": [1, 2]}, {"start": {"k": 5}}, r"start k=5 is not one of \[1, 2\]"),
        ({"k": [1, 2]}, {"start": {"q": 5}}, r"start names 'q'; the parameters are \['k'\]"),
        ({"k": [1, 2]}, {"labels": {"q": "Q"}}, r"labels names 'q'"),
        ({"a": range(30), "b": range(20)}, {}, "a 30 × b 20 = 600 frames, more than 400; give 'a' at most 20 values"),
    ],
)
@pytest.mark.parametrize("static", ["0", "1"])
def test_a_bad_grid_is_refused_before_anything_is_drawn(grid, options, message, static, monkeypatch):
    """Catches errors that a reader would meet only on moving a control; the same in both modes."""
    monkeypatch.setenv("LLMBOOK_STATIC", static)
    with pytest.raises(FigureError, match=message):
        sweep(LINE, grid, title="t", **options)


def test_a_function_that_raises_names_the_values_and_keeps_the_cause():
    """Catches "division by zero" without the frame it came from."""

    def fn(k, mode):
        return curves({"y": [1 / k, 1]}, alt="a")

    with pytest.raises(FigureError, match="failed at k=0, mode='b': ZeroDivisionError") as caught:
        sweep(fn, {"k": [0, 1], "mode": ["b"]}, title="t")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_function_that_returns_no_figure_is_named():
    """Catches a forgotten return."""
    with pytest.raises(FigureError, match="returned NoneType at k=1; return a plotly figure"):
        sweep(lambda k: None, {"k": [1, 2]}, title="t")


def test_a_frame_without_alt_text_says_where_and_what_to_do():
    """Catches a bare plotly figure in an explorer, which a blind reader could not follow."""
    with pytest.raises(FigureError, match=r"at k=1: .* no alt text: pass alt="):
        sweep(lambda k: go.Figure(go.Scatter(y=[1, 2])), {"k": [1, 2]}, title="t")
    assert isinstance(sweep(lambda k: go.Figure(go.Scatter(y=[1, 2])), {"k": [1]}, title="t", alt="line"), Sweep)


def test_frames_of_another_shape_name_the_values():
    """Catches a sweep over the length of the data."""
    with pytest.raises(FigureError, match=r"differ in shape: data\[0\].* is \[8\] at n=8 but \[9\] at n=9"):
        sweep(lambda n: curves({"y": np.arange(n) * 0.5}, alt="a"), {"n": [8, 9]}, title="t")
