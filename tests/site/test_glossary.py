"""Entries of the glossary beside the words that link to them: by pointer, keyboard and finger, and never in the way."""

import pytest
from bs4 import BeautifulSoup

from tests.site.pages import PAGES, PHONE, WIDE, text
from tests.site.scripts import FRAMES

LINKING = [page for page in PAGES if "entry-link" in text(page)]
SHOWN = "[...document.querySelectorAll('.entry:popover-open')].map((box) => box.id)"


@pytest.fixture
def word(opened):
    """word(look): a page that has links to entries, the first of those links, and the id of its entry."""
    if not LINKING:
        pytest.fail("no page of the site shows an entry of the glossary")

    def go(look):
        page = opened(LINKING[0], look)
        link = page.locator("a.entry-link").first
        link.scroll_into_view_if_needed()
        return page, link, link.get_attribute("aria-describedby")

    return go


def test_every_link_to_an_entry_carries_it(book):
    """Would catch a link whose entry is not in the page, an entry twice, and one that says nothing or has a link."""
    wrong = []
    for page in PAGES:
        soup = BeautifulSoup(text(page), "html.parser")
        for link in soup.select('main a[href*="glossary.html#"]'):
            boxes = soup.find_all(id=link.get("aria-describedby"))
            if len(boxes) != 1 or len(boxes[0].get_text().split()) < 5 or boxes[0].find(["a", "button"]):
                wrong.append((page, link["href"]))
    assert wrong == []
    assert len(LINKING) > 3


def test_chinese_words_are_said_to_be_chinese(book):
    """Would catch slanted characters, and a screen reader that spells 注意力 in English."""
    soup = BeautifulSoup(text("glossary.html"), "html.parser")
    assert [em.get_text() for em in soup.find_all("em") if any("\u4e00" <= c <= "\u9fff" for c in em.get_text())] == []
    entries = [section for section in soup.find_all("section") if section.find("h3", recursive=False)]
    assert [entry["id"] for entry in entries if not entry.find("span", lang="zh")] == []
    assert len(entries) > 50


def test_pointing_shows_it_and_escape_closes_it(word):
    """Would catch an entry that hides its own word, leaves the window, or cannot be sent away."""
    page, link, name = word(WIDE)
    link.hover()
    assert page.evaluate(SHOWN) == [name]
    box, here = page.locator(f"#{name}").bounding_box(), link.bounding_box()
    assert box["y"] >= here["y"] + here["height"] or box["y"] + box["height"] <= here["y"]
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    page.locator(f"#{name}").hover()
    page.wait_for_timeout(400)  # longer than it waits for a pointer on its way
    assert page.evaluate(SHOWN) == [name]
    page.keyboard.press("Escape")
    assert page.evaluate(SHOWN) == []


def test_the_keyboard_reaches_it_and_enter_follows(word):
    """Would catch an entry for the mouse alone, and a link that no longer leads to the glossary."""
    page, link, name = word(WIDE)
    page.keyboard.press("Tab")  # the page is used by keys from here
    link.focus()
    assert page.evaluate(SHOWN) == [name]
    page.keyboard.press("Enter")
    page.wait_for_url("**/glossary.html#*")


def test_a_click_follows_the_link(word):
    """Would catch a pop-up that takes the click."""
    page, link, _ = word(WIDE)
    link.click()
    page.wait_for_url("**/glossary.html#*")


def test_a_first_tap_shows_it_and_a_second_follows(word):
    """Would catch a phone without entries, an entry wider than the phone, and a link that taps cannot follow."""
    page, link, name = word(PHONE)
    page.evaluate(FRAMES)  # what scrolled to the link has scrolled: that closes an entry
    event = "new PointerEvent('click', { pointerType: 'touch', bubbles: true, cancelable: true })"
    tap = f"(link) => link.dispatchEvent({event})"
    link.evaluate(tap)
    assert page.evaluate(SHOWN) == [name]
    box = page.locator(f"#{name}").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE.width
    link.evaluate(tap)
    page.wait_for_url("**/glossary.html#*")
