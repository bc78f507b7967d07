"""Shannon's guessing game as a figure: a reader guesses a text letter by letter, and models have guessed before.

How many guesses each letter takes bounds the entropy of the text (https://doi.org/10.1002/j.1538-7305.1951.tb01366.x).
The game is one script, assets/guessing/guessing.js, and the same on the site and in a notebook: it needs no kernel,
because what the models would guess is sent along as ranks, one small number a letter.
"""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbook.figures.theme import FigureError
from llmbook.notebook import is_static

ASSETS = Path(__file__).parent / "assets" / "guessing"
LOOK = "<style>body { font-family: system-ui, sans-serif; }</style>"  # of a frame, which inherits nothing


class GuessingGame:
    """What ``guessing_game`` returns: displays itself, in a frame of its own in a notebook, in the page on the site."""

    def __init__(self, markup: str, text: str):
        self.markup, self.text = markup, text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        shown = self.markup
        if not is_static():
            page = html.escape(f'<!doctype html><html lang="en"><meta charset="utf-8">{LOOK}{self.markup}</html>')
            shown = f'<iframe title="Guessing game" style="width:100%;height:36rem;border:0" srcdoc="{page}"></iframe>'
        return {"text/html": shown, "text/plain": self.text}


def guessing_game(
    passages: Sequence[str],
    rivals: Mapping[str, Sequence[Sequence[int]]],
    *,
    alphabet: str,
    shown: int,
    title: str,
    caption: str = "",
) -> GuessingGame:
    """A game over ``passages``, whose first ``shown`` letters are given, against ``rivals``.

    rivals: for each name and each passage the rank of every letter, 1 where the rival would have guessed it first
    (those of the letters shown are not read). Raises FigureError for a letter outside the alphabet, a passage with
    nothing to guess, and ranks that do not fit.
    """
    for passage in passages:
        if len(passage) <= shown:
            raise FigureError(
                f"the passage {passage[:20]!r} has {len(passage)} letters and shows {shown}: none to guess"
            )
        if outside := set(passage) - set(alphabet):
            raise FigureError(f"the passage {passage[:20]!r} has {min(outside)!r}, which is not in the alphabet")
    for name, ranks in rivals.items():
        if [len(r) for r in ranks] != [len(p) for p in passages]:
            raise FigureError(f"the ranks of {name!r} are not one for each letter of each passage")
        if wrong := [r for passage in ranks for r in passage[shown:] if not 1 <= r <= len(alphabet)]:
            raise FigureError(f"{name!r} has the rank {wrong[0]}; the alphabet allows 1 to {len(alphabet)}")
    settings = {
        "alphabet": alphabet,
        "passages": list(passages),
        "shown": shown,
        "rivals": {name: [list(map(int, r)) for r in ranks] for name, ranks in rivals.items()},
    }
    data = json.dumps(settings, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    css, js = ((ASSETS / f"guessing.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    markup = (
        f'<figure class="llm-strip llm-guessing"><style>{css}</style>'
        f'<p class="llm-title"><strong>{html.escape(title)}</strong></p>'
        f'<div class="lg-game"><p>This game is played in JavaScript.</p></div>'
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f'<script type="application/json">{data}</script></figure><script>{js}</script>'
    )
    return GuessingGame(markup, f"[guessing game: {title}, {len(passages)} passages]")
