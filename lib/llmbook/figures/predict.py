"""``predict(question, figure, …)``: a question before its figure, which opens with the reader's guess in it.

In a notebook: ipywidgets controls, and the figure below them once a guess is made or declined. While the book is built:
a form that web/predict.js brings to life without a kernel, around the figure as the page draws it. The measured answer
is computed by the cell and passed along, so the line that says how near a guess was is measured as well.
"""

import copy
import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from llmbook.figures import page, payload, theme
from llmbook.figures.drawing import Drawing
from llmbook.figures.drawing import page as drawn
from llmbook.figures.explore import Sweep
from llmbook.figures.guesses import STEPS, Question, question
from llmbook.figures.theme import FigureError

GUESS = "#CC79A7"  # the colour of a guess; web/explorer.js draws it in the same
SAYS = "your guess"


def predict(
    text: str,
    figure: "go.Figure | Drawing | Sweep | Sequence[go.Figure | Drawing | Sweep]",
    *,
    answer: Any,
    options: Sequence | None = None,
    between: tuple[float, float] | None = None,
    over: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    band: float = 0.0,
    log: bool = False,
    unit: str = "",
    mark: str | None = None,
) -> "Prediction":
    """Ask ``text`` before ``figure`` (with alt text; a drawing, a sweep, or several, which open together) is shown.

    Three kinds of question, by what is given:

    - *pick*: ``options`` to choose from; answer: the right one, or a list where several are right.
    - *place*: a number ``between=(low, high)``; answer: a number, or the band (low, high) that was measured.
      mark: the axis of the figure, "x" or "y", on which the guess is drawn.
    - *draw*: a line ``between=(low, high)`` over the places ``over`` on the figure's x axis, called ``names``
      (default: their numbers); answer: a number or a band for each place. It counts as right where at least half lie
      in their band.

    band: how far from a number of the answer a guess may lie and count as within. log: the axis is logarithmic.
    unit: written after numbers, "%" or "bits". Raises FigureError naming what does not fit, such as an answer that is
    none of the options or lies outside the axis.
    """
    asked = question(
        text,
        answer=answer,
        options=options,
        between=between,
        over=over,
        names=names,
        band=band,
        log=log,
        unit=unit,
        mark=mark,
    )
    return Prediction(asked, list(figure) if isinstance(figure, (list, tuple)) else [figure])


class Prediction:
    """What ``predict`` returns: displays itself, live or static. ``figures`` are what it opens; the guess is drawn in
    the first, unless that is a drawing.

    Raises FigureError where a figure is none of what ``predict`` takes, and where there is none.
    """

    def __init__(self, asked: Question, figures: list[go.Figure | Drawing | Sweep]):
        if not figures:
            raise FigureError(f"predict {asked.text!r}: no figure; give the one that answers")
        for figure in figures:
            if isinstance(figure, go.Figure):
                theme.alt_text(figure)
            elif not isinstance(figure, (Drawing, Sweep)):
                what = type(figure).__name__
                raise FigureError(
                    f"predict {asked.text!r}: the figure is {what}; give a plotly figure, a drawing or a sweep"
                )
        self.question, self.figures = asked, figures
        self._html = self.to_html() if theme.is_static() else None

    def verdict(self, guess: Any) -> str:
        """How near a guess was, in one line: an option's index, a number, or a number for each place."""
        return self.question.verdict(guess)

    def marked(self, guess: Any) -> go.Figure | Drawing | Sweep:
        """The first figure with ``guess`` drawn in it, where it has axes; the figure itself stays as it is."""
        first = self.figures[0]
        if isinstance(first, Drawing) or (isinstance(first, Sweep) and isinstance(first.frame(), Drawing)):
            return first
        if isinstance(first, go.Figure):
            return _marked(first, self.question, guess)
        sweep = copy.copy(first)
        sweep.fn = lambda **values: _marked(first.fn(**values), self.question, guess)
        sweep._drawn = {}
        return sweep

    def to_html(self) -> str:
        """The question, its form and the figures as markup for the site."""
        inner = (one.to_html() if isinstance(one, Sweep) else _figure_html(one) for one in self.figures)
        return page.predict_html(self.question.spec(), "".join(inner))

    def widget(self):
        """The live form: controls, then the figure with the guess in it."""
        import ipywidgets as widgets
        from IPython.display import display

        asked = self.question
        wide = {"layout": widgets.Layout(width="auto", max_width="40em"), "style": {"description_width": "initial"}}
        if asked.kind == "pick":
            choices = list(zip(asked.options, range(len(asked.options)), strict=True))
            controls = [widgets.RadioButtons(options=choices, value=None, layout=widgets.Layout(width="auto"))]
        else:
            steps = [(f"{asked.value(i):,g}", asked.value(i)) for i in range(STEPS + 1)]
            steps = list(dict(steps).items())  # two steps of a short axis may round to one number
            names = asked.names or [asked.unit or "your guess"]
            start = steps[len(steps) // 2][1]
            controls = [widgets.SelectionSlider(options=steps, value=start, description=n, **wide) for n in names]
        show, skip = (
            widgets.Button(description="Show what was measured"),
            widgets.Button(description="Show without guessing"),
        )
        for button in (show, skip):
            button.layout.width = "auto"
        words, output = widgets.HTML(), widgets.Output()

        def reveal(guess: Any) -> None:
            told = "Opened without a guess." if guess is None else self.verdict(guess)
            words.value = f"<strong>{html.escape(told)}</strong>"
            with output:  # an error of the figure shows here
                output.clear_output(wait=True)
                display(self.figures[0] if guess is None else self.marked(guess), *self.figures[1:])

        def commit(_) -> None:
            values = [control.value for control in controls]
            if None in values:
                words.value = "Choose one of the answers first."
            else:
                reveal(values if asked.kind == "draw" else values[0])

        show.on_click(commit)
        skip.on_click(lambda _: reveal(None))
        heading = widgets.HTML(f"<strong>Your prediction.</strong> {html.escape(asked.text)}")
        return widgets.VBox([heading, *controls, widgets.HBox([show, skip]), words, output])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if theme.is_static():
            display({"text/html": self._html, "text/plain": repr(self)}, raw=True)
            return
        try:
            widget = self.widget()
        except ImportError:  # no ipywidgets: the question, and its figure at once
            display({"text/plain": self.question.text}, raw=True)
            display(*self.figures)
            return
        # What shows no widgets shows this line: where the figure is to be had.
        instead = (
            f"<p>{html.escape(self.question.text)}</p><p>No controls here. The figure: <code>_.figures[0]</code></p>"
        )
        bundle = widget._repr_mimebundle_()
        display({**bundle, "text/html": instead, "text/plain": repr(self)}, raw=True)

    def __repr__(self) -> str:
        return f"<predict {self.question.text!r}: {self.question.kind}>"


def _figure_html(figure: go.Figure | Drawing) -> str:
    if isinstance(figure, Drawing):
        return drawn.figure(figure)
    frame = payload.plain(figure)
    return page.figure_html(payload.pack([frame], ["the figure"]))


def _marked(figure: go.Figure, asked: Question, guess: Any) -> go.Figure:
    """A copy of the figure with the guess in it, as web/explorer.js draws it in a page."""
    fig = go.Figure(figure)
    if asked.kind == "draw":
        fig.add_scatter(
            x=asked.over,
            y=list(guess),
            name=SAYS,
            mode="lines+markers+text",
            text=[""] * (len(guess) - 1) + [SAYS],
            textposition="top left",
            cliponaxis=False,
            showlegend=False,
            line={"color": GUESS, "dash": "dot", "width": 2.5},
            marker={"color": GUESS, "size": 9, "symbol": "diamond-open"},
        )
    elif asked.kind == "place" and asked.mark:
        line = {"color": GUESS, "dash": "dot", "width": 2.5}
        add = fig.add_vline if asked.mark == "x" else fig.add_hline
        add(guess, line=line, label={"text": SAYS, "xanchor": "left", "yanchor": "top", "textangle": 0})
    elif asked.kind == "pick":
        mine = theme.printable(asked.options[guess])
        for axis in (fig.layout.xaxis, fig.layout.yaxis):
            if axis.ticktext:
                axis.ticktext = [f"<b>▸ {t}</b>" if page.plain_text(t) == mine else t for t in axis.ticktext]
        for note in fig.layout.annotations:
            if note.text.endswith(f" {mine}"):
                note.text = f"<b>▸ {note.text}</b>"
    return fig
