"""What the page's script makes of a figure in a narrow window: measured in a headless Chromium, without a driver."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import plotly.graph_objects as go
import pytest

from llmbook.figures import Sweep, bars, curves, describe, page, stacked_bars, sweep

WEB = Path(__file__).resolve().parents[2] / "web"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, [os.environ.get("CHROME") or "", *NAMES])), None)
PHONE = 328  # CSS pixels that a page of 360 leaves to a figure
LONG = {
    "of the negative sentences, called negative by the model": 0.4,
    "counts": 0.9,
    "another name that is too long for any phone": 0.7,
    "Donaudampfschifffahrtsgesellschaftskapitän": 0.2,
    "一个很长很长很长很长很长很长的中文名字": 0.6,
}
MEASURE = """
const hold = document.body.appendChild(document.createElement("iframe"));
hold.contentDocument.open(); // while this is being written the page is not loaded, and what is not loaded is not dumped
(async () => {
  const { mount } = await import(FIGURES), found = [];
  for (const figure of document.querySelectorAll("figure.llm-figure")) {
    await mount(figure);
    const plot = figure.querySelector(".llm-plot"), box = plot.getBoundingClientRect();
    const labels = [...plot.querySelectorAll(".ytick text")].map((text) => text.getBoundingClientRect());
    const texts = [...plot.querySelectorAll("text")].filter((text) => text.textContent.trim());
    figure.querySelector(".llm-values").open = true;
    await new Promise((done) => setTimeout(done, 100));
    found.push({
      state: figure.dataset.state,
      cut: texts.filter((text) => {
        const at = text.getBoundingClientRect();
        return at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1;
      }).map((text) => text.textContent),
      over: labels.filter((a, i) =>
        labels.some((b, j) => i < j && a.top < b.bottom - 2 && b.top < a.bottom - 2)).length,
      texts: texts.map((text) => text.textContent),
      below: [...plot.querySelectorAll(".xtick text")].filter((text) => {
        const style = getComputedStyle(text);
        return style.opacity > 0 && style.display !== "none" && style.visibility === "visible";
      }).map((text) => {
        const at = text.getBoundingClientRect();
        return [text.textContent, at.width, at.height];
      }),
      names: [...plot.querySelectorAll(".textpoint text")]
        .filter((text) => getComputedStyle(text).visibility === "visible").map((text) => text.textContent),
      plot: plot.querySelector(".nsewdrag").getBoundingClientRect().width,
      hidden: texts.flatMap((a, i) => texts.slice(i + 1).map((b) => [a, b]))
        .filter(([a, b]) => ![a, b].every((text) => text.closest(".xtick")))
        .filter(([a, b]) => {
          const one = a.getBoundingClientRect(), two = b.getBoundingClientRect();
          return one.left < two.right && two.left < one.right && one.top + 4 < two.bottom && two.top + 4 < one.bottom;
        }).map(([a, b]) => `${a.textContent} / ${b.textContent}`),
      rows: [...figure.querySelectorAll(".llm-values tr")].map((row) => [...row.cells].map((cell) => cell.textContent)),
    });
  }
  document.body.dataset.found = JSON.stringify(found);
})().finally(() => hold.contentDocument.close());
"""


# What anywidget does with such a module: it loads it from an address of its own and hands it an empty element.
HOST = """
const hold = document.body.appendChild(document.createElement("iframe"));
hold.contentDocument.open();
(async () => {
  const source = await (await fetch(MODULE)).text();
  const { default: widget } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const state = { markup: MARKUP, plotly: PLOTLY }, heard = {};
  const model = { get: (name) => state[name], set: (name, value) => { state[name] = value; },
                  on: (event, hear) => { heard[event] = hear; }, off() {}, save_changes() {} };
  const el = document.body.appendChild(document.createElement("div"));
  await widget.render({ model, el });
  const plot = el.querySelector(".llm-plot"), control = el.querySelector("[data-dial]");
  const before = [el.dataset.state, plot.data.length, Array.from(plot.data[0].y)];
  control.value = "2";
  control.dispatchEvent(new Event("input", { bubbles: true }));
  model.set("guess", { mark: "line", x: [0, 1], y: [1, 2], said: "You said so." });
  heard["change:guess"]();
  await new Promise((done) => setTimeout(done, 300));
  const after = [plot.data.length, Array.from(plot.data[0].y), plot.getAttribute("aria-label")];
  document.body.dataset.found = JSON.stringify([...before, state.at, ...after]);
})().catch((error) => { document.body.dataset.found = JSON.stringify(String(error)); })
  .finally(() => hold.contentDocument.close());
"""


def drawn(folder, *figures, width=PHONE):
    """What is seen of each figure in a column of ``width`` pixels."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install one, or name it in CHROME")
    show = page.SiteRenderer().to_mimebundle
    markup = "".join(
        figure.to_html() if isinstance(figure, Sweep) else show(figure.to_dict())["text/html"] for figure in figures
    )
    script = f'const FIGURES = "{(WEB / "figures.js").as_uri()}";{MEASURE}'
    found = seen(folder, f'<div style="width:{width}px">{markup}</div><script>{script}</script>')
    assert len(found) == len(figures)
    return found


def seen(folder, body):
    """What the script of a page leaves in its body's data."""
    style = f'<link rel="stylesheet" href="{(WEB / "explorer.css").as_uri()}">'
    (folder / "page.html").write_text(
        f'<!doctype html><meta charset="utf-8">{style}<body>{body}</body>', encoding="utf-8"
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--allow-file-access-from-files"]  # modules of a page that no server gives
    own = [f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "page.html").as_uri()]
    text = subprocess.run([*command, *own], capture_output=True, text=True, timeout=120).stdout
    return json.loads(unescape(re.search(r'data-found="([^"]*)"', text)[1]))


def test_the_module_draws_where_a_notebook_gives_it_a_model(tmp_path):
    """Catches an explorer that only works on this site: one that looks for its page, its neighbours or its markup."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install one, or name it in CHROME")
    moved = sweep(lambda k: curves({"y": [k, 2 * k]}, alt=f"k is {k}"), {"k": [1, 2, 3]}, title="t")
    given = {"MODULE": (WEB / "explorer.js").as_uri(), "PLOTLY": (WEB / "vendor" / "plotly.min.js").as_uri()}
    given["MARKUP"] = moved.to_html()
    names = "".join(f"const {name} = {json.dumps(value)};".replace("</", "<\\/") for name, value in given.items())
    found = seen(tmp_path, f"<script>{names}{HOST}</script>")
    assert found == ["explorer", 1, [1, 2], [2], 2, [3, 6], "k is 3 You said so."]


def test_names_of_bars_fit_on_a_phone(tmp_path):
    """Catches names that are cut or lie upon each other, and names that leave no room for the bars; in every frame."""
    parts = {name: {"one": value, "two": 1} for name, value in LONG.items()}
    short = {str(i): 0.1 for i in range(len(LONG))}
    moved = sweep(lambda k: bars([short, LONG][k], alt="a"), {"k": [0, 1]}, title="t", start={"k": 1})
    figures = bars(LONG, alt="a"), stacked_bars(parts, alt="a"), moved, bars(LONG, alt="a", height=90)
    for seen in drawn(tmp_path, *figures):
        assert (seen["state"] in ("figure", "explorer"), seen["cut"], seen["over"]) == (True, [], 0)
        assert seen["plot"] > PHONE / 3


def test_a_line_that_leaves_the_plot_keeps_its_name(tmp_path):
    """Catches a label out of the drawn range, which plotly hides: beside the plot, and in a phone's legend."""
    fig = curves({"stays": [1, 1, 1], "leaves": [1, 2, 9], "falls": [1, 0, -9]}, alt="a", ylim=(0, 2))
    for width in (700, PHONE):
        (seen,) = drawn(tmp_path, fig, width=width)
        assert seen["cut"] == []
        assert {"stays", "leaves", "falls"} <= {text.split()[-1] for text in seen["texts"]}


def test_places_of_ticks_without_texts_are_drawn_and_listed(tmp_path):
    """Catches ticks that an author has moved shown elsewhere, and a table of values that breaks off at them."""
    fig = curves({"a": ([0, 5, 10], [1, 2, 3])}, alt="a").update_xaxes(tickvals=[5, 10])
    (seen,) = drawn(tmp_path, fig)
    assert [text for text in seen["texts"] if text in ("0", "5", "10")] == ["5", "10"]
    assert seen["rows"][1:] == [["0", "1"], ["5", "2"], ["10", "3"]]


def test_ticks_of_a_log_axis_are_plain_numbers(tmp_path):
    """Catches measured points written as powers or with digits of the logarithm, and moved ticks with old numbers."""
    fig = curves({"a": ([64, 1024, 262144], [1, 2, 3])}, alt="a", log_x=True)
    moved = curves({"a": ([64, 1024, 262144], [1, 2, 3])}, alt="a", log_x=True).update_xaxes(tickvals=[100, 0.5])
    first, second = drawn(tmp_path, fig, moved)
    assert {"64", "1024", "262144"} <= set(first["texts"])
    assert "100" in second["texts"]
    assert not {"64", "1024", "262144"} & set(second["texts"])
    assert first["rows"][-1] == ["262144", "3"]


def test_powers_on_a_phone_lie_flat(tmp_path):
    """Catches a label for every power, which plotly then sets upright: taller than two lines of it are wide."""
    fig = bars({"a": 0.5, "b": 1e-5}, alt="a", height=240)
    fig.update_xaxes(type="log", range=[-6.5, 0.5], dtick=1, exponentformat="power")
    (seen,) = drawn(tmp_path, fig)
    powers = [size for text, *size in seen["below"] if text.startswith("10")]
    assert len(powers) >= 3
    assert all(wide > tall for wide, tall in powers)


def test_names_of_points_do_not_lie_upon_each_other(tmp_path):
    """Catches names of crowded points drawn over each other or past the edge, and names hidden without need."""
    near = {"x": [0, 0.01, 0.02, 3], "y": [1, 1, 1, 2], "text": ["the first", "the second", "the third", "alone"]}
    fig = describe(go.Figure(go.Scatter(**near, mode="markers+text", textposition="top center")), alt="a")
    fig.update_xaxes(range=[-2, 5])
    (seen,) = drawn(tmp_path, fig)
    assert seen["names"] == ["the first", "alone"]
    (wide,) = drawn(tmp_path, fig.update_traces(x=[-1, 1, 2.6, 4]), width=700)
    assert wide["names"] == near["text"]


def test_long_words_under_an_axis_fit_on_a_phone(tmp_path):
    """Catches a name of the axis that is cut, or that the legend covers, and ticks whose names lie upon it or miss."""
    long = "times the last four characters had been read: share of text"
    names = ["never: 10%", "1 to 9: 20%", "10 to 99: 45%", "100 and more: 25%"]
    series = {name: [1, 3, 2, 4] for name in ("counts", "window", "recurrence", "attention")}
    fig = curves(series, alt="a", xlabel=long, height=300).update_xaxes(tickvals=[0, 1, 2, 3], ticktext=names)
    bar = bars({"form": (0.7, 0.6, 0.9), "chat": 0.5}, alt="a", xlabel="accuracy on 36 sentences, two standard errors")
    log = curves(series, alt="a", xlabel="short", log_y=True)
    for seen in drawn(tmp_path, fig, bar, log):
        assert (seen["state"], seen["cut"], seen["hidden"]) == ("figure", [], [])
        if "never: 10%" in seen["texts"]:
            there = [text for text, *_ in seen["below"]]
            assert [text[:6] for text in there] == [name[:6] for name in names]
    (wide,) = drawn(tmp_path, fig, width=700)
    assert long in wide["texts"]
