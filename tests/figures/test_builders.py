"""The builders: right cells, right labels, and errors that name the shape."""

import inspect
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import torch

import llmbook.figures as figures
from llmbook.figures import page, payload, theme
from llmbook.figures.curves import _direct_labels
from llmbook.figures.digits import luminance

FE = figures.FigureError


@pytest.mark.parametrize("name", ["heatmap", "attention_map", "attention_grid", "curves", "loss_curve", "bars"])
def test_every_builder_requires_alt_text(name):
    """Catches a builder that lets a figure through without a description."""
    parameter = inspect.signature(getattr(figures, name)).parameters["alt"]
    assert parameter.default is inspect.Parameter.empty
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY


def test_empty_alt_text_is_no_alt_text():
    """Catches alt='' used to silence the rule."""
    with pytest.raises(FE, match="no alt text: pass alt="):
        figures.heatmap([[1.0]], alt="  ")


def test_showing_a_figure_without_alt_text_is_an_error_that_helps(monkeypatch):
    """Catches a bare plotly figure on its way to the page, by show() or by the site's renderer."""
    bare = go.Figure(go.Scatter(y=[1, 2]), layout={"title": {"text": "Loss"}})
    for display in (figures.show, lambda fig: page.SiteRenderer().to_mimebundle(fig.to_dict())):
        with pytest.raises(FE, match=r"'Loss' has no alt text.*describe\(fig, alt="):
            display(bare)


def test_repeated_tokens_keep_their_own_cells():
    """Catches a category axis: plotly would merge the two rows and columns of "the"."""
    w = torch.rand(3, 3)
    fig = figures.attention_map(w, ["the", "cat", "the"], alt="a")
    assert fig.data[0].x is None
    assert list(fig.layout.xaxis.tickvals) == [0, 1, 2]
    assert list(fig.layout.xaxis.ticktext) == ["the", "cat", "the"]
    np.testing.assert_allclose(payload.plain(fig)["data"][0]["z"], w.numpy(), rtol=1e-6)


def test_masked_cells_are_not_zeros():
    """Catches a mask drawn as weight 0, or drawn where True = may attend."""
    mask = torch.ones(3, 3).tril().bool()
    grey, shown = payload.plain(figures.attention_map(torch.full((3, 3), 0.0), list("abc"), mask=mask, alt="a"))["data"]
    np.testing.assert_array_equal(np.isnan(shown["z"]), ~mask.numpy())
    np.testing.assert_array_equal(np.isnan(grey["z"]), mask.numpy())


@pytest.mark.parametrize("scale", ["sequential", "diverging"])
def test_numbers_in_cells_can_be_read_on_every_colour(scale):
    """Catches numbers of one colour, or of plotly's choice (3.5 : 1 on green), a number twice, and one for NaN."""
    z = np.linspace(-1, 1, 200).reshape(10, 20)
    z[3, 4] = np.nan
    fig = figures.heatmap(z, alt="a", scale=scale, digits=2)
    colours, *layers = payload.plain(fig)["data"]
    assert "texttemplate" not in colours
    written = np.stack([np.isfinite(layer["z"]) for layer in layers])
    np.testing.assert_array_equal(written.sum(0), np.isfinite(z))
    for layer, there in zip(layers, written, strict=True):
        assert there.any()
        np.testing.assert_array_equal(layer["z"][there], z[there])
        assert (layer["texttemplate"], layer["hoverinfo"], layer["showscale"]) == ("%{z:.2f}", "skip", False)
        colour = {"#000000": 0.0, "#ffffff": 1.0}[layer["textfont"]["color"]]
        cells = luminance(z, list(theme.SEQUENTIAL if scale == "sequential" else theme.DIVERGING), -1, 1)[there]
        bright, dark = np.maximum(cells, colour), np.minimum(cells, colour)
        assert ((bright + 0.05) / (dark + 0.05)).min() >= 4.5


def test_the_luminance_of_a_cell_is_that_of_its_colour():
    """Catches steps mixed in the wrong order or between the wrong ends, and channels weighed alike."""
    steps = ["#ff0000", "#00ff00", "#000000"]
    mixed = 0.2126 * 0.214041 + 0.7152 * 0.214041  # half red, half green: 0.5 is 0.214 in linear light
    found = luminance(np.array([[1.0, 1.5, 2, 3, 9]]), steps, 1.0, 3.0)
    np.testing.assert_allclose(found, [[0.2126, mixed, 0.7152, 0, 0]], atol=1e-4)


def test_masked_cells_stay_empty_under_numbers():
    """Catches the grey of masked cells drawn over the weights or their numbers, and numbers in it."""
    mask = torch.ones(3, 3).tril().bool()
    fig = figures.attention_map(torch.full((3, 3), 0.25), list("abc"), mask=mask, digits=2, alt="a")
    grey, shown, *layers = payload.plain(fig)["data"]
    np.testing.assert_array_equal(np.isnan(grey["z"]), mask.numpy())
    assert "reads" in shown["hovertemplate"]
    np.testing.assert_array_equal(sum(np.isfinite(layer["z"]) for layer in layers), mask.numpy())


def test_moved_ticks_of_a_log_axis_have_their_own_numbers():
    """Catches the builder's texts kept beside other places, 1 at 10 and 2 at 100."""
    axis = figures.curves({"a": ([1, 2, 4], [1, 2, 3])}, alt="a", log_x=True).update_xaxes(tickvals=[10, 100])
    assert axis.layout.xaxis.ticktext is None
    assert axis.layout.xaxis.tickformat == ".6~g"


def test_the_first_query_is_at_the_top():
    """Catches plotly's default, which turns the matrix upside down."""
    assert figures.heatmap([[1.0], [2]], alt="a").layout.yaxis.autorange == "reversed"


def test_tokens_cannot_be_markup_and_white_space_shows():
    """Catches a token "<b>" that vanishes, and a space that looks like nothing."""
    assert [theme.printable(t) for t in [" the", "\n", "<b>", "a b", ""]] == ["␣the", "⏎", "&lt;b&gt;", "a b", "∅"]


@pytest.mark.parametrize(("shape", "rows", "columns"), [((8, 3, 3), 2, 4), ((2, 3, 3, 3), 2, 3), ((3, 3, 3), 1, 3)])
def test_every_head_is_in_its_own_map(shape, rows, columns):
    """Catches heads transposed with layers, or a map drawn twice."""
    w = torch.rand(*shape)
    fig = figures.attention_grid(w, list("abc"), alt="a")
    traces = payload.plain(fig)["data"]
    for trace, head in zip(traces, w.reshape(-1, 3, 3), strict=True):
        np.testing.assert_allclose(trace["z"], head.numpy(), rtol=1e-6)
    names = [a.text for a in fig.layout.annotations]
    assert len(names) == len(set(names)) == len(traces)
    positions = {(round(a.x, 6), round(a.y, 6)) for a in fig.layout.annotations}
    assert (len({y for _, y in positions}), len({x for x, _ in positions})) == (rows, columns)


def test_a_band_encloses_its_line():
    """Catches low and high drawn in the wrong order along x."""
    x, y = np.arange(20.0), np.sin(np.arange(20.0))
    band, line = payload.plain(figures.curves({"a": (x, y, y - 1, y + 2)}, alt="a"))["data"]
    np.testing.assert_array_equal(line["y"], y)
    np.testing.assert_array_equal(band["x"], [*x, *x[::-1]])
    np.testing.assert_array_equal(band["y"], [*(y + 2), *(y - 1)[::-1]])


def test_direct_labels_do_not_cover_each_other():
    """Catches labels of lines that end at the same height."""
    ends = [("a", 0, 1.0), ("b", 0, 1.0), ("c", 0, 0.99), ("d", 0, 0.0)]
    labels = _direct_labels(ends, (0.0, 1.0), False, 300)
    at = sorted(label["y"] * 300 + label["yshift"] for label in labels)
    assert min(np.diff(at)) >= 16.9
    assert at[-1] <= 301


def test_a_label_stands_where_its_line_leaves_the_plot():
    """Catches a label out of the drawn range, which plotly hides, an arrow the wrong way, and one on a line within."""
    series = {"in": [1, 1], "up": [1, 90], "down": [1, 0.001]}
    for log in (False, True):
        fig = figures.curves(series, alt="a", ylim=(0.1, 10), log_y=log)
        low, high = fig.layout.yaxis.range
        inside, up, down = fig.layout.annotations
        assert (up.y, down.y, inside.y) == (high, low, 0 if log else 1)
        assert up.text.endswith(" ↑ up")
        assert down.text.endswith(" ↓ down")
        assert inside.text.endswith("</span> in")
    turned = figures.curves(series, alt="a", ylim=(10, 0.1)).layout.annotations
    assert [label.y for label in turned] == [1, 10, 0.1]
    assert turned[1].text.endswith(" ↓ up")


def test_a_label_stands_beside_the_last_point_that_is_drawn():
    """Catches a label at the height of a point beyond xlim."""
    (label, _) = figures.curves({"a": [1, 2, 3, 4], "b": [0, 0, 0, 0]}, alt="a", xlim=(0, 2)).layout.annotations
    assert label.y == 3


def test_reference_lines_differ_without_colour_or_label():
    """Catches references that look alike in a phone's legend, where all are grey."""
    values = {"valid_steps": [1, 4], "valid_loss": [4.2, 1.1]}
    fig = figures.loss_curve(values, alt="a", references={"uniform": 4, "unigram": 3, "bigram": 2, "trigram": 1})
    assert len({trace.line.dash for trace in fig.data if trace.line.color == "#808080"}) == 4


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", ["short"]),
        ("a  b ", ["a  b "]),
        (" the", ["␣the"]),
        ("exactly 18 letters", ["exactly 18 letters"]),
        ("of the positive, called positive", ["of the positive,", "called positive"]),
        ("Donaudampfschifffahrt", ["Donaudampfschifffa", "hrt"]),
        ("一二三四五六七八九十", ["一二三四五六七八九", "十"]),
        ("<b> & more than fits", ["&lt;b&gt; &amp; more than", "fits"]),
        ("", ["∅"]),
    ],
)
def test_long_names_are_broken_between_words(name, lines):
    """Catches a line too long for a phone, a short name that is broken, a lost letter, and markup cut in two."""
    assert theme.folded(name) == "<br>".join(lines)


def test_bars_become_higher_where_names_need_it():
    """Catches broken names that lie upon each other, and figures that grow without need or past what was asked."""
    long, short = "of the positive, called positive", "accuracy"
    tall, low = (figures.bars({name: 1.0, "b": 2.0}, alt="a").layout for name in (long, short))
    assert tall.yaxis.ticktext[0].count("<br>") == 1
    assert tall.height > low.height == 90 + 28 * 2
    assert tall.meta["narrow_height"] == tall.height
    assert figures.bars({long: 1.0, "b": 2.0}, alt="a", height=400).layout.height == 400
    assert figures.bars({long: 1.0, "b": 2.0}, alt="a", height=100).layout.height == tall.height
    stacked = figures.stacked_bars({long: {"p": 1}, "b": {"p": 2}}, alt="a", height=170).layout
    assert stacked.yaxis.ticktext[0].count("<br>") == 1
    assert stacked.height > 170


def test_lines_differ_by_more_than_colour():
    """Catches lines that a colour-blind reader cannot tell apart."""
    fig = figures.curves({str(i): [i, i + 1] for i in range(12)}, alt="a")
    looks = {(t.line.color, t.line.dash) for t in fig.data}
    assert len(looks) == 12
    assert len({t.line.dash for t in fig.data[:6]}) == 6


def test_loss_curve_reads_a_history_or_its_dict():
    """Catches validation losses drawn against training steps."""
    values = {"steps": [1, 2, 3, 4], "train_loss": [4.0, 3, 2, 1], "valid_steps": [0, 4], "valid_loss": [4.2, 1.1]}
    for history in (values, SimpleNamespace(**values)):
        fig = figures.loss_curve(history, alt="a", smooth=2, references={"ln V": 4.17})
        by_name = {t.name: t for t in fig.data}
        assert list(by_name["validation"].x) == [0, 4]
        np.testing.assert_allclose(by_name["training"].y, [3.5, 2.5, 1.5])
        assert list(by_name["training"].x) == [2, 3, 4]
        assert list(by_name["ln V"].y) == [4.17, 4.17]


def test_loss_curve_on_a_log_axis_leaves_step_0_out():
    """Catches a point that a logarithmic axis cannot hold being drawn as a line from its edge."""
    values = {"steps": [1, 2], "train_loss": [4.0, 3], "valid_steps": [0, 2], "valid_loss": [4.2, 3.1]}
    fig = figures.loss_curve(values, alt="a", log_x=True, references={"ln V": 4.17})
    by_name = {t.name: t for t in fig.data}
    assert list(by_name["validation"].x) == [2]
    assert list(by_name["ln V"].x) == [1, 2]


def test_bars_keep_repeated_names_and_error_ends():
    """Catches two tokens of one name drawn as one bar, and an interval taken for a half-width."""
    fig = figures.bars([("cat", 0.3), ("cat", 0.1)], alt="a")
    assert list(fig.data[0].y) == [0, 1]
    assert list(fig.layout.yaxis.ticktext) == ["cat", "cat"]
    fig = figures.bars({"m": (0.5, 0.4, 0.7)}, alt="a")
    np.testing.assert_allclose([fig.data[0].error_x.array[0], fig.data[0].error_x.arrayminus[0]], [0.2, 0.1])


def test_bars_leave_out_what_has_no_value():
    """Catches "nan" written where a bar would end, and NaN, which is unequal to itself, taken for an interval: the
    frames of a sweep would differ."""
    all_there, one_missing = (figures.bars({"a": 2.0, "b": b}, alt="a").data[0] for b in (3.0, float("nan")))
    assert one_missing.text == ("2.000", "")
    assert all_there.error_x.array is one_missing.error_x.array is None
    figures.sweep(lambda b: figures.bars({"a": 2.0, "b": b}, alt="a"), {"b": [3.0, float("nan")]}, title="t")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: figures.heatmap(np.zeros(3), alt="a"), r"z has shape \(3,\); expected 2"),
        (lambda: figures.heatmap(np.zeros((0, 3)), alt="a"), r"shape \(0, 3\)"),
        (lambda: figures.heatmap([["a"]], alt="a"), "expected numbers"),
        (lambda: figures.heatmap(np.zeros((2, 3)), x=["a"], alt="a"), "1 labels in x for 3 columns"),
        (lambda: figures.heatmap(np.zeros((2, 3)), scale="jet", alt="a"), "scale='jet'"),
        (lambda: figures.attention_map(np.zeros((2, 3)), list("ab"), alt="a"), r"are \[2, 3\], but there are 2 tokens"),
        (
            lambda: figures.attention_map(np.eye(2), list("ab"), mask=np.ones((3, 3)), alt="a"),
            r"mask has shape \(3, 3\)",
        ),
        (lambda: figures.attention_grid(np.eye(2), list("ab"), alt="a"), "expected 3 or 4 dimensions"),
        (lambda: figures.curves({}, alt="a"), "no series"),
        (lambda: figures.curves({"q": ([1, 2], [1, 2, 3])}, alt="a"), r"'q' has lengths \[2, 3\]"),
        (lambda: figures.loss_curve({}, alt="a"), "no losses yet"),
        (lambda: figures.loss_curve({"steps": [1], "train_loss": [1, 2]}, alt="a"), "1 steps for 2 training"),
        (lambda: figures.bars({}, alt="a"), "no values"),
        (lambda: figures.bars({"a": (1, 2)}, alt="a"), "low, high"),
        (lambda: figures.token_strip(["a"], [1, 2], alt="a"), "1 tokens but 2 values"),
        (lambda: figures.token_strip(["a"], [-1.0], alt="a"), "-1 is negative"),
    ],
)
def test_errors_name_the_offending_value(build, message):
    """Catches a plotly or numpy traceback where one line would do."""
    with pytest.raises(FE, match=message):
        build()


def test_token_strip_keeps_the_text_and_says_the_numbers():
    """Catches markup in a token, and numbers shown by colour alone."""
    strip = figures.token_strip(["<a>", " b"], [1.5, np.nan], alt="surprise", label="nats")
    markup = strip._repr_mimebundle_()["text/html"]
    assert "&lt;a&gt;" in markup
    assert 'title="nats 1.50"' in markup
    assert "not scored" in markup


def test_the_site_draws_a_lone_figure_the_same_way():
    """Catches a figure outside a sweep that would bring plotly's own 5 MB script to the page."""
    assert pio.renderers.default == "llmbook"
    bundle = pio.renderers._build_mime_bundle(figures.heatmap([[1.0, 2]], alt="two", title="T").to_dict())
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/html"].startswith('<figure class="llm-figure"')
    assert 'aria-label="two"' in bundle["text/html"]
    assert "plotly.min.js" not in bundle["text/html"]
    assert len(bundle["text/html"]) < 3000


def test_text_colours_are_legible_on_both_pages():
    """Catches a colour that vanishes: 3 : 1 on the dark page; on white the two light ones (2.1) come with dashes."""

    def luminance(colour):
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        parts = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(parts @ [0.2126, 0.7152, 0.0722])

    def contrast(a, b):
        low, high = sorted([luminance(a), luminance(b)])
        return (high + 0.05) / (low + 0.05)

    assert min(contrast(c, "#14181e") for c in theme.COLOURS) > 3
    assert min(contrast(c, "#ffffff") for c in theme.COLOURS) > 2.1
    lightness = [luminance(c) for c in theme.SEQUENTIAL]
    assert lightness == sorted(lightness)
