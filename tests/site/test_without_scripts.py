"""A reader without JavaScript gets the text, the colours, what each figure shows, and a word about what is missing."""

import pytest

from tests.site.browser import window
from tests.site.pages import EXPLORERS, WIDE

SEEN = """() => {
  const shown = (box) => box?.checkVisibility() ?? false;
  const figures = [...document.querySelectorAll("figure.llm-figure")];
  return {
    word: shown(document.querySelector(".book-word")),
    colour: getComputedStyle(document.documentElement).getPropertyValue("--pst-color-text-base").trim(),
    figures: figures.length,
    told: figures.filter((box) => box.checkVisibility() && box.innerText.trim().length > 40).length,
    shown: figures.filter((box) => box.checkVisibility()).length,
  };
}"""


@pytest.mark.parametrize("page", ["index.html", EXPLORERS[-1]])
def test_a_page_without_scripts_is_whole(browser, address, page):
    """Would catch a page without colours, an empty box in place of a figure, and silence about what does not work."""
    with window(browser, WIDE, scripts=False) as shown:
        shown.goto(address + page)
        seen = shown.evaluate(SEEN)
    assert seen["word"]
    assert seen["colour"]
    assert seen["figures"] > 0
    assert seen["told"] == seen["shown"]
