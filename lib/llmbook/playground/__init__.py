"""A language model as a page: one file that a browser runs, the page around it, and a figure that writes.

``writing.py`` says what the file holds and writes it, ``reading.py`` opens it, ``assets/playground/gpt.js`` runs it.
``page.py`` makes a page of a reader's own model, ``live.py`` a line of text that a model goes on with.
"""

from llmbook.playground.live import LiveModel, live_model
from llmbook.playground.page import Playground, save_playground
from llmbook.playground.reading import Exported, read_exported
from llmbook.playground.writing import PageError, export_model, round_to_half

__all__ = [
    "Exported",
    "LiveModel",
    "PageError",
    "Playground",
    "export_model",
    "live_model",
    "read_exported",
    "round_to_half",
    "save_playground",
]
