"""The guessing game: its arithmetic by node against the formula, its rules, what it refuses."""

import json
import math
import shutil
import subprocess

import pytest

from llmbook.figures import FigureError, guessing_game
from llmbook.figures.guessing import ASSETS

NODE = shutil.which("node")
ALPHABET = " abc"


def run(script):
    code = f"const {{ bounds, toldBounds, Game }} = require({json.dumps(str(ASSETS / 'guessing.js'))});\n{script}"
    done = subprocess.run([NODE, "-e", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(NODE is None, reason="there is no node to run the page's JavaScript")
def test_bounds_are_shannons():
    """A logarithm of another base, or a share shifted by one rank, would give plausible other numbers."""
    ranks = [1] * 5 + [2] * 2 + [4]
    q = [5 / 8, 2 / 8, 0, 1 / 8, 0]
    upper = -sum(p * math.log2(p) for p in q if p)
    lower = sum(i * (q[i - 1] - q[i]) * math.log2(i) for i in range(1, 5))
    found = run(f"console.log(JSON.stringify([bounds({ranks}, 4), bounds([1, 1, 1], 4), bounds([1, 2, 3, 4], 4)]))")
    assert found[0] == pytest.approx({"lower": lower, "upper": upper})
    assert found[1] == {"lower": 0, "upper": 0}  # always right at once: nothing to learn
    assert found[2] == pytest.approx({"lower": 2, "upper": 2})  # no idea: log2 of the alphabet, both


@pytest.mark.skipif(NODE is None, reason="there is no node to run the page's JavaScript")
def test_bounds_wait_for_thirty_letters():
    """From one or two letters the lower bound lies above the upper one, and the table would show an empty interval."""
    found = run(
        """
        const hard = [4], played = Array.from({ length: 30 }, (_, i) => i % 3 ? 1 : 1 + i % 4);
        console.log(JSON.stringify([bounds(hard, 4), toldBounds(hard, 4), toldBounds(played, 4)]));
        """
    )
    assert found[0]["lower"] > found[0]["upper"]
    assert found[1] == "after 30 letters"
    low, high = map(float, found[2].split(" to "))
    assert low < high


@pytest.mark.skipif(NODE is None, reason="there is no node to run the page's JavaScript")
def test_rules_of_the_game():
    """A letter tried twice must not count twice, and the rivals are compared on the letters played alone."""
    found = run(
        """
        const game = new Game("abca", " abc", 1);
        const said = ["c", "c", "?", "b", "c"].map((letter) => game.guess(letter));
        const rival = game.rivalRanks([9, 3, 2, 1]);
        said.push(game.tell(), game.tell(), game.guess("a"));
        console.log(JSON.stringify({ said, rival, ranks: game.ranks, over: game.over }));
        """
    )
    assert found["said"] == [False, None, None, True, True, True, None, None]
    assert found["ranks"] == [2, 1, 4]  # giving up counts as the last guess
    assert found["rival"] == [3, 2]
    assert found["over"] is True


def test_markup_holds_the_game(monkeypatch):
    """A passage with markup in it must arrive as text, and the notebook's frame must hold the whole page."""
    monkeypatch.setenv("LLMBOOK_STATIC", "1")
    game = guessing_game(["a<b"], {"m": [[0, 1, 2]]}, alphabet="ab<", shown=1, title="T & t")
    page = game._repr_mimebundle_()["text/html"]
    assert "T &amp; t" in page
    assert '"a\\u003cb"' in page
    assert "<iframe" not in page
    monkeypatch.delenv("LLMBOOK_STATIC")
    assert game._repr_mimebundle_()["text/html"].startswith("<iframe")


@pytest.mark.parametrize(
    ("passages", "ranks", "words"),
    [
        (["ab"], [[1, 1]], "none to guess"),
        (["abcx"], [[1, 1, 1, 1]], "'x'"),
        (["abc"], [[1, 1]], "one for each letter"),
        (["abc"], [[1, 1, 5]], "rank 5"),
    ],
)
def test_what_does_not_fit_is_named(passages, ranks, words):
    """A game that cannot be played must fail when made, not in the reader's browser."""
    with pytest.raises(FigureError, match=words):
        guessing_game(passages, {"m": ranks}, alphabet=ALPHABET, shown=2, title="t")
