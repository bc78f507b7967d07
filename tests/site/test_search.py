"""The search finds what is on a page, and says so when it finds nothing."""

import re

from publishing import notebooks
from publishing.book import Book
from tests.site.pages import WIDE

BOOK = Book()
CHAPTERS = [BOOK.name(path).removesuffix(".ipynb") for path in BOOK.notebooks if BOOK.is_chapter(path)]


def results(page):
    """The addresses that the search page lists, once it has finished."""
    page.wait_for_function("document.querySelector('#search-results .search-summary')?.textContent.includes('inished')")
    return page.eval_on_selector_all("#search-results ul.search li > a", "links => links.map((link) => link.href)")


def test_every_chapter_is_found_by_its_title(opened):
    """Would catch an index without a chapter, and links of results that lead into nothing."""
    page, lost = opened("search.html", WIDE), []
    for chapter in CHAPTERS:
        title = notebooks.read(BOOK.root / f"{chapter}.ipynb").cells[0].source.splitlines()[0]
        word = max(re.findall(r"\w+", title.lower()), key=len)
        page.goto(f"{page.url.partition('?')[0]}?q={word}")
        found = [address.partition("?")[0].partition("#")[0] for address in results(page)]
        if not any(address.endswith(f"/{chapter}.html") for address in found):
            lost.append((chapter, word, found))
    assert lost == []
    assert page.goto(found[0]).ok


def test_nonsense_is_not_found(opened):
    """Would catch a search that lists every page whatever is asked."""
    page = opened("search.html?q=qzxvqzxv", WIDE)
    page.wait_for_function("document.querySelector('#search-results')?.textContent.includes('did not match any')")
    assert page.locator("#search-results ul.search li").count() == 0


def test_the_button_of_every_page_leads_there(opened):
    """Would catch a search field that opens and does nothing, which no test of the search page would notice."""
    page = opened("index.html", WIDE)
    page.locator(".search-button__button:visible").first.click()
    field = page.locator("dialog[open] input[type=search]")
    field.fill("attention")
    field.press("Enter")
    page.wait_for_url("**/search.html?q=attention*")
    assert any("attention.html" in address for address in results(page))
