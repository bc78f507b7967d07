"""Help in long chapters: what is left, where one stopped, and pages without their code."""

import re

import pytest

from tests.site.pages import PHONE, WIDE

CHAPTER = "chapters/2-concepts/attention.html"


def minutes(page) -> int:
    line = page.locator(".book-left").first
    line.wait_for(state="attached")
    return int(re.search(r"About (\d+) minutes? of reading left", line.text_content())[1])


def scrolled(page, share: float) -> None:
    page.evaluate(
        "(share) => scrollTo({ top: share * document.documentElement.scrollHeight, behavior: 'instant' })", share
    )
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_minutes_left_fall_and_end(opened):
    """Would catch a number that stands still, and one that is there on a page of a few lines."""
    page = opened(CHAPTER, WIDE)
    before = minutes(page)
    scrolled(page, 0.5)
    assert 0 < minutes(page) < before
    scrolled(page, 1)
    assert page.locator(".book-left").text_content() == "You have read this page."
    short = opened("bibliography.html", WIDE)
    short.wait_for_load_state("load")
    assert short.locator(".book-progress").count() == 0


@pytest.mark.parametrize("look", [WIDE, PHONE], ids=str)
def test_a_page_goes_on_where_it_was_left(opened, look):
    """Would catch a place that is forgotten, offered at the very beginning, or in the way of a link to another."""
    page = opened(CHAPTER, look)
    minutes(page)
    assert page.locator(".book-continue").count() == 0
    scrolled(page, 0.5)
    page.reload()
    offer = page.locator(".book-continue a")
    offer.wait_for()
    place = offer.get_attribute("href")
    offer.press("Enter")
    page.wait_for_function("(hash) => location.hash === hash", arg=place)
    assert page.locator(".book-continue").count() == 0
    page.goto("about:blank")
    page.go_back()
    page.reload()
    minutes(page)
    assert page.locator(".book-continue").count() == 0  # the address says where to begin


def test_the_code_hides_and_stays_hidden(opened):
    """Would catch a button that only a mouse can press, a choice that is lost, and solutions hidden with the code."""
    page = opened(CHAPTER, WIDE)
    button = page.locator(".book-code")
    button.focus()
    page.keyboard.press("Enter")
    code = page.locator(".bd-article div.cell:not(.tag_hide-cell, .tag_hide-input) > .cell_input")
    assert (code.count() > 10, code.first.is_visible()) == (True, False)
    assert page.locator(".bd-article .tag_hide-cell summary").first.is_visible()
    page.reload()
    page.locator(".book-code[aria-pressed=true]").wait_for(state="attached")
    assert not code.first.is_visible()
    page.locator(".book-code").click()
    assert code.first.is_visible()


def test_a_browser_that_keeps_nothing_is_no_hindrance(browser, address):
    """Would catch a page whose other scripts end because storage is refused."""
    from tests.site.browser import window

    refused = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('refused'); } });"
    with window(browser, WIDE) as page:
        page.add_init_script(refused)
        page.goto(address + CHAPTER)
        assert minutes(page) > 0
        page.locator(".book-code").click()
        assert page.locator(".book-code").get_attribute("aria-pressed") == "true"
