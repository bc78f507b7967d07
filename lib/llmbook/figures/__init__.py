"""Figures of the book: builders, one theme, ``sweep``, which turns a function into an explorer, and ``predict``, which
asks for a guess before a figure opens.

Every builder returns a plotly figure and asks for ``alt``, what the figure says to a reader who cannot see
it. In a notebook plotly draws; when the book is built (``LLMBOOK_STATIC=1``) every figure becomes a small
self-contained ``<figure>`` that ``web/explorer.js`` draws, without a kernel.
"""

from llmbook.figures import page
from llmbook.figures.bars import bars
from llmbook.figures.columns import text_columns
from llmbook.figures.curves import curves, loss_curve
from llmbook.figures.cutting import TokenExplorer, token_explorer
from llmbook.figures.decoder import decoder_diagram
from llmbook.figures.drawing import Drawing, Panel
from llmbook.figures.explore import Sweep, sweep
from llmbook.figures.guessing import GuessingGame, guessing_game
from llmbook.figures.heatmaps import attention_grid, attention_map, heatmap
from llmbook.figures.predict import Prediction, predict
from llmbook.figures.stacks import stacked_bars
from llmbook.figures.theme import FigureError, describe, show
from llmbook.figures.tokens import token_strip

page.register()

__all__ = [
    "Drawing",
    "FigureError",
    "GuessingGame",
    "Panel",
    "Prediction",
    "Sweep",
    "TokenExplorer",
    "attention_grid",
    "attention_map",
    "bars",
    "curves",
    "decoder_diagram",
    "describe",
    "guessing_game",
    "heatmap",
    "loss_curve",
    "predict",
    "show",
    "stacked_bars",
    "sweep",
    "text_columns",
    "token_explorer",
    "token_strip",
]
