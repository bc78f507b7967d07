"""The search as a reader uses it: what is asked comes first, by keyboard and by hand, and nothing is fetched before."""

import gzip
import re

import pytest

from publishing import notebooks
from publishing.book import Book
from tests.site.pages import PHONE, WIDE

BOOK = Book()
CHAPTERS = [BOOK.name(path).removesuffix(".ipynb") for path in BOOK.notebooks if BOOK.is_chapter(path)]
# What is typed, and the kind, the title and the address of what must come first.
FIRST = [
    ("attention", "Glossary", "Attention", "glossary.html#attention"),
    ("attenton", "Glossary", "Attention", "glossary.html#attention"),
    ("postional encoding", "Glossary", "Position encoding", "glossary.html#position-encoding"),
    ("perplexety", "Glossary", "Perplexity", "glossary.html#perplexity"),
    ("top-p", "Glossary", "Top-p", "glossary.html#top-p"),
    ("注意力", "Glossary", "Attention", "glossary.html#attention"),
    ("三国演义", "Model", "三国演义, Romance of the Three Kingdoms", "playground.html#model=sanguo-bpe"),
    ("kv cache", "Glossary", "Key–value cache", "glossary.html#keyvalue-cache"),
    ("exercise ntk", "Exercise", "Exercise 3: Build — NTK scaling", "positions.html#exercise-3-build-ntk-scaling"),
    ("one number for a text", "Section", "One number for a text", "language-models.html#one-number-for-a-text"),
]


def dialog(page):
    """The search of any page, opened as most readers will."""
    page.keyboard.press("Control+k")
    return page.locator("dialog[open] input[type=search]")


def results(page):
    """Kind, title, place and quotation of each result, and its address without the words to mark."""
    page.wait_for_function("document.querySelector('dialog[open] .search-told').textContent")
    return page.evaluate(
        """() => [...document.querySelectorAll("dialog[open] [role=option]")].map((option) => ({
          kind: option.querySelector(".search-kind").textContent,
          title: option.querySelector(".search-title").textContent,
          at: option.href.replace(/\\?[^#]*/, "") }))"""
    )


def ask(page, field, query):
    """What is found for `query`, once it is the one that is shown."""
    field.fill("")  # which empties the list, and what is told of it
    field.fill(query)
    return results(page)


def test_what_is_asked_comes_first(opened):
    """Would catch a misspelling that finds nothing, 注意力 without attention, and an entry its own word ranks fifth."""
    page, wrong = opened("index.html", WIDE), []
    field = dialog(page)
    for query, kind, title, at in FIRST:
        first = next(iter(ask(page, field, query)), {"kind": None, "title": None, "at": ""})
        if (first["kind"], first["title"]) != (kind, title) or not first["at"].endswith(at):
            wrong.append((query, first))
    assert wrong == []


def test_every_chapter_is_found_by_its_title(opened):
    """Would catch an index without a chapter, and links of results that lead into nothing."""
    page, lost = opened("index.html", WIDE), []
    field = dialog(page)
    for chapter in CHAPTERS:
        title = notebooks.read(BOOK.root / f"{chapter}.ipynb").cells[0].source.splitlines()[0]
        query = " ".join(re.findall(r"\w+", title))
        found = [one["at"].partition("#")[0] for one in ask(page, field, query)]
        if not any(address.endswith(f"/{chapter}.html") for address in found):
            lost.append((chapter, query, found))
    assert lost == []
    assert page.goto(found[0]).ok


def test_kinds_and_places_are_those_of_the_site(opened, book):
    """Would catch a result that leads to no element of its page: a figure's number is given while the page is made."""
    page, lost = opened("index.html", WIDE), []
    field = dialog(page)
    for query in ("attention head", "exercise", "loss of a model"):
        for one in ask(page, field, query):
            address, _, at = one["at"].partition("#")
            text = (book.html / address.removeprefix(page.url.rpartition("/")[0] + "/")).read_text(encoding="utf-8")
            if at and "=" not in at and f'id="{at}"' not in text:
                lost.append(one)
    assert lost == []
    assert {one["kind"] for one in ask(page, field, "every head of MiniLM")} >= {"Figure", "Section"}


def test_a_result_opens_at_its_section_with_the_words_marked(opened):
    """Would catch a result that opens a long page at its top, and one whose words the reader has to look for again."""
    page = opened("index.html", WIDE)
    field = dialog(page)
    found = ask(page, field, "72 heads of a traned model")
    assert found[0]["at"].endswith("attention.html#heads-of-a-trained-model")
    field.press("Enter")
    page.wait_for_url("**/attention.html#heads-of-a-trained-model")
    page.wait_for_function("CSS.highlights.get('search')?.size > 2")
    marked = page.evaluate("[...CSS.highlights.get('search')].map((range) => range.toString().toLowerCase())")
    assert {"heads", "trained"} <= set(marked)
    top = "document.getElementById('heads-of-a-trained-model').getBoundingClientRect().top"
    page.wait_for_function(f"{top} > -5 && {top} < innerHeight / 2")
    page.keyboard.press("Escape")
    assert page.evaluate("CSS.highlights.has('search')") is False


def test_keys_open_move_and_close_it(opened):
    """Would catch a search that needs a mouse, or whose chosen result a screen reader is not told."""
    page = opened("glossary.html", WIDE)
    page.keyboard.press("/")
    field = page.locator("dialog[open] input[type=search]")
    found = ask(page, field, "softmax")
    assert len(found) > 3
    chosen = "document.activeElement.getAttribute('aria-activedescendant')"
    selected = "document.querySelector('[role=option][aria-selected=true]').id"
    seen = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp"):
        field.press(key)
        assert page.evaluate(chosen) == page.evaluate(selected)
        seen.append(int(page.evaluate(chosen).rpartition("-")[2]))
    assert seen[:4] == [1, 2, 1, 0]
    assert seen[4] == page.locator("dialog[open] [role=option]").count() - 1
    assert field.get_attribute("aria-expanded") == "true"
    field.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_nothing_is_fetched_before_it_is_opened(opened, book):
    """Would catch an index that every reader of every page pays for, as Sphinx's was."""
    page, asked = opened("index.html", WIDE), []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    heavy = re.compile(r"minisearch|search-core|searchindex|searchtools|/search/")
    assert [url for url in asked if heavy.search(url)] == []
    ask(page, dialog(page), "attention")
    assert len([url for url in asked if url.endswith("/search/index.js")]) == 1
    entries = page.evaluate("bookSearch.size")
    index = (book.html / "_static/search/index.js").read_bytes()
    assert len(gzip.compress(index)) < 300 * entries  # bytes over the wire for each thing that can be found


@pytest.mark.parametrize("look", [WIDE, PHONE], ids=str)
def test_the_icon_lies_beside_the_words(opened, look):
    """Would catch a glass drawn over the first letter, and a dialog wider than the phone."""
    page = opened("index.html", look)
    ask(page, dialog(page), "attention")
    box = page.evaluate(
        """() => { const form = document.querySelector("dialog[open] form"), field = form.querySelector("input");
          const icon = form.querySelector("i").getBoundingClientRect(), style = getComputedStyle(field);
          return { icon: icon.right, text: field.getBoundingClientRect().left + parseFloat(style.paddingLeft),
            right: document.querySelector("dialog[open]").getBoundingClientRect().right, width: innerWidth }; }"""
    )
    assert box["icon"] <= box["text"]
    assert box["right"] <= box["width"]


def test_nonsense_is_not_found_and_a_missing_index_says_so(opened):
    """Would catch a list of everything whatever is asked, and a search that is silent when it cannot work."""
    page = opened("index.html", WIDE)
    assert ask(page, dialog(page), "qzxvqzxv") == []
    assert "Nothing found" in page.locator("dialog[open] .search-told").inner_text()
    page = opened("glossary.html", WIDE)
    page.route("**/search/index.js", lambda route: route.abort())
    page.reload()
    assert ask(page, dialog(page), "attention") == []
    assert "index of the search is missing" in page.locator("dialog[open] .search-told").inner_text()


def test_the_page_of_old_links_searches_too(opened):
    """Would catch links to search.html?q=… that end nowhere, and a page that says nothing without JavaScript."""
    page = opened("search.html?q=perplexety", WIDE)
    page.wait_for_function("document.querySelector('main [role=option]')")
    assert page.locator("main [role=option]").first.get_attribute("href").partition("#")[2] == "perplexity"
    assert "needs JavaScript" in page.locator("#search noscript").text_content()


def test_the_buttons_of_every_page_open_it(opened):
    """Would catch a button that opens nothing, which no test of the keys would notice."""
    page = opened("index.html", WIDE)
    page.locator(".search-button__button:visible").first.click()
    field = page.locator("dialog[open] input[type=search]")
    assert any("attention.html" in one["at"] for one in ask(page, field, "attention"))
