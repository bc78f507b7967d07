"""The home page as a newcomer meets it: something to try at once, and little to wait for."""

import gzip
from urllib.parse import unquote, urlsplit

import pytest

from tests.site.pages import PHONE, WIDE

PAGE = "index.html"
BUDGET = 400_000  # bytes of what is fetched before anything is touched, compressed
COMPRESSED = {".css", ".html", ".js", ".json", ".svg"}
SCREENS = {"wide": (1280, 800), "phone": (360, 740)}
pytestmark = pytest.mark.xdist_group(PAGE)


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
def test_what_to_try_stands_above_the_fold(browser, address, screen):
    """Would catch a first screen without the line, its bars and the button, or without for whom the book is, and a page
    that moves while it opens."""
    width, height = screen
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.add_init_script(
        """new PerformanceObserver((list) => {
          for (const entry of list.getEntries())
            if (!entry.hadRecentInput) window.shift = (window.shift ?? 0) + entry.value;
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    page.goto(address + PAGE)
    page.wait_for_selector(".llm-live[data-live]")
    for name in (".lv-input", ".lv-text", ".lv-bars", ".lv-write"):
        box = page.locator(name).bounding_box()
        assert box["y"] + box["height"] <= height, name
    for words in ("for people who", "Try it in ten seconds"):
        box = page.get_by_text(words).first.bounding_box()
        assert box["y"] + box["height"] <= height, words
    assert (page.evaluate("window.shift") or 0) < 0.1
    page.context.close()


def test_it_weighs_little_before_it_is_touched(browser, address, book):
    """Would catch weights, the code of a model or a drawing library that a reader fetches without having asked."""
    page = browser.new_context(viewport={"width": WIDE.width, "height": 800}).new_page()
    fetched = set()
    page.on("request", lambda request: fetched.add(unquote(urlsplit(request.url).path).lstrip("/")))
    page.goto(address + PAGE)
    page.wait_for_load_state("networkidle")
    page.context.close()
    assert not [path for path in fetched if path.endswith((".bin.gz", "gpt.js")) or "plotly" in path]
    weight = 0
    for path in (book.html / name for name in fetched):
        if path.is_file():
            data = path.read_bytes()
            weight += len(gzip.compress(data, 6)) if path.suffix in COMPRESSED else len(data)
    assert 50_000 < weight <= BUDGET, weight


def test_it_says_what_it_shows_without_javascript(browser, address):
    """Would catch a figure that is empty until a script has run: the numbers of the chapter's own run stand there."""
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(address + PAGE)
    rows = page.locator(".lv-bars button")
    assert rows.first.text_content().startswith("␣am")
    assert all(text.endswith(" %") for text in rows.all_text_contents())
    assert page.locator(".lv-text").text_content() == "My lord, I"
    assert page.locator(".llm-live :is(button, input):not(:disabled)").count() == 0
    page.context.close()


@pytest.mark.parametrize("look", [WIDE, PHONE], ids=str)
def test_the_line_goes_on(opened, look):
    """Would catch numbers in the page that are not the model's, a token that is not added, a button that does nothing,
    and writing that Escape does not stop."""
    page = opened(PAGE, look)
    rows, text = page.locator(".lv-bars button"), page.locator(".lv-text")
    before = rows.all_text_contents()
    page.locator(".lv-input").focus()
    page.wait_for_function("document.querySelector('.lv-progress').hidden && window.llmPlayground === undefined")
    page.wait_for_function("typeof llmReader !== 'undefined'")
    rows.nth(2).click()
    page.wait_for_function("document.querySelectorAll('.lv-new').length === 1")
    assert text.text_content() == "My lord, I will"
    page.locator(".lv-over").click()
    page.wait_for_function("document.querySelectorAll('.lv-new').length === 0")
    assert rows.all_text_contents() == before  # Python's numbers, and now the page's own
    page.locator(".lv-write").click()
    page.wait_for_function("document.querySelectorAll('.lv-new').length > 5")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('.lv-status').textContent.startsWith('Wrote')")
    assert text.text_content().startswith("My lord, I")
    page.locator(".lv-input").fill("The king")
    page.wait_for_function("document.querySelector('.lv-text').textContent === 'The king'")
    assert rows.all_text_contents() != before


def test_a_model_that_does_not_come_is_said_and_asked_for_again(browser, address):
    """Would catch a button that waits forever, or gives up for good."""
    page = browser.new_context().new_page()
    page.route("**/*.bin*", lambda route: route.abort())
    page.goto(address + PAGE)
    page.locator(".lv-write").click()
    page.get_by_text("no connection to the site").wait_for()
    page.unroute("**/*.bin*")
    page.locator(".lv-write").click()
    page.wait_for_function("document.querySelectorAll('.lv-new').length > 2")
    page.context.close()
