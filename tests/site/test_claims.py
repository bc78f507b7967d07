"""What the book says of itself is true: on its home page, in its description, on its card and in the README.

A sentence with "every" in one of these places is a claim, and a claim has a check here.
"""

import json
import re

import pytest
import yaml
from bs4 import BeautifulSoup

from publishing.notebooks import ASSERTION, CHECKED, code_cells, read, tags
from tests.site.pages import PAGES, text

FIGURE = re.compile(r'<figure class="llm-.*?</figure>', re.S)
MOVED = re.compile(r"<(?:input|select|textarea|button)\b")
NUMBERS = {"two": 2, "three": 3, "four": 4}


def chapters(book):
    """The notebooks of the chapters, and their pages."""
    return [(path, book.name(path).replace(".ipynb", ".html")) for path in book.notebooks if book.is_chapter(path)]


def figures(page):
    """The markup of every figure of a page."""
    return FIGURE.findall(text(page))


def proves_its_claims(book, path, page):
    codes = code_cells(read(path))
    return any(ASSERTION.search(cell.source) for cell in codes) and any(CHECKED in tags(cell) for cell in codes)


def has_a_figure_to_change(book, path, page):
    return any(MOVED.search(figure) for figure in figures(page))


def runs_on_a_laptop(book, path, page):
    opening = " ".join(cell.source for cell in read(path).cells[:2])
    return re.search(r"Quick: [^.]*\d+ s\b", opening) is not None and "CPU core" in opening.split("Full")[0]


def asks_a_question(book, path, page):
    return "?" in read(path).cells[0].source.split("\n\n")[1]


CLAIMS = {
    "every chapter tests its claims by code on the page": proves_its_claims,
    "every chapter tests its claims by code": proves_its_claims,
    "every chapter has a figure that you can change": has_a_figure_to_change,
    "every chapter runs on a laptop": runs_on_a_laptop,
    "every chapter asks one question and answers it by an experiment whose code stands on the page": asks_a_question,
}


def said(book):
    """Every such claim, with the place where it stands."""
    card = BeautifulSoup((book.root / "web/card.svg").read_text(encoding="utf-8"), "html.parser")
    home = json.loads((book.root / "index.ipynb").read_text(encoding="utf-8"))["cells"][0]["source"]
    config = yaml.safe_load((book.root / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    places = {
        "web/card.svg": ". ".join(line.get_text() for line in card.find_all("text")),
        "index.ipynb": "".join(home),
        "_config.yml": config["book_description"],
        "README.md": (book.root / "README.md").read_text(encoding="utf-8").split("\n## ")[0],
    }
    for place, words in places.items():
        for claim in re.findall(r"\bevery [^.,;:]*", " ".join(words.split()), re.I):
            yield place, claim.strip().removesuffix(" and").lower()


def test_every_claim_about_the_book_has_a_check(book):
    """Would catch "every figure can be moved", which was said for weeks and true of one in three."""
    claims = list(said(book))
    assert {"web/card.svg", "_config.yml", "README.md"} <= {place for place, _ in claims}
    assert [claim for claim in claims if claim[1] not in CLAIMS] == []


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_about_the_book_is_true(book, claim):
    """Would catch a chapter of which the home page says too much."""
    assert [page for path, page in chapters(book) if not CLAIMS[claim](book, path, page)] == []


def test_as_many_figures_can_be_changed_as_the_readme_says(book):
    """Would catch a share of figures with a control that has sunk below what is claimed."""
    claim = re.search(
        r"of their own \(checked\) \| at least one in (\w+) \|", (book.root / "README.md").read_text("utf-8")
    )
    every = [figure for page in PAGES for figure in figures(page)]
    moved = [figure for figure in every if MOVED.search(figure)]
    assert len(moved) * NUMBERS[claim[1]] >= len(every) > 0, f"{len(moved)} of {len(every)}"
