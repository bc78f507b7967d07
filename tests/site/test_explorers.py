"""What the reader moves, moves the data: every slider and every menu of every explorer."""

import time

import pytest

from tests.site.pages import EXPLORERS, NARROW, WIDE

SHOWN = """(figure) => {
  const plot = figure.querySelector(".llm-plot");
  const plain = (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
  return JSON.stringify([plot.data, plot.layout.annotations, plot.layout.shapes], plain);
}"""


def drawn(opened, page, look):
    """The explorers of a page, each with its number; solutions are opened, for some lie in one."""
    shown = opened(page, look)
    shown.evaluate("document.querySelectorAll('main details').forEach((box) => { box.open = true; })")
    figures = shown.locator("figure.llm-figure:has([data-dial])")
    for number in range(figures.count()):
        figure = figures.nth(number)
        figure.scroll_into_view_if_needed()
        shown.wait_for_function("(figure) => figure.dataset.state === 'explorer'", arg=figure.element_handle())
        yield shown, figure


def differs(figure, before, seconds=5.0):
    """What the figure shows once it is something else than `before`, or `before` if it stays so."""
    end = time.monotonic() + seconds
    while (now := figure.evaluate(SHOWN)) == before and time.monotonic() < end:
        time.sleep(0.05)
    return now


def named(figure, control):
    """An explorer and one of its dials in words, for the message of a failure."""
    title = figure.locator(".llm-title").first.inner_text()
    return f"{title!r}, {control.evaluate('(c) => c.parentElement.firstElementChild.textContent')!r}"


def step(control, direction):
    """Move a dial by one option: a slider with an arrow key, a menu by choosing."""
    if control.evaluate("(c) => c.localName") == "select":
        control.select_option(index=control.evaluate("(c) => c.selectedIndex") + direction)
    else:
        control.press("ArrowRight" if direction > 0 else "ArrowLeft")


def onward(control):
    """+1, or -1 for a dial that starts at its end."""
    last = control.evaluate("(c) => c.localName === 'select' ? c.selectedIndex === c.length - 1 : c.value === c.max")
    return -1 if last else 1


@pytest.mark.parametrize("look", [WIDE, NARROW], ids=str)
@pytest.mark.parametrize("page", EXPLORERS)
def test_every_dial_changes_what_is_shown_and_back(opened, page, look):
    """Would catch a dial that is dead, stuck, out of step with the data, or out of the keyboard's reach."""
    dead, stuck, silent = [], [], []
    for _, figure in drawn(opened, page, look):
        for control in figure.locator("[data-dial]").all():
            before, said = figure.evaluate(SHOWN), control.locator("xpath=..").inner_text()
            direction = onward(control)
            step(control, direction)
            if differs(figure, before) == before:
                dead.append(named(figure, control))
                continue
            if control.evaluate("(c) => c.localName") == "input" and control.locator("xpath=..").inner_text() == said:
                silent.append(named(figure, control))
            after = figure.evaluate(SHOWN)
            step(control, -direction)
            if differs(figure, after) != before:
                stuck.append(named(figure, control))
    assert (dead, stuck, silent) == ([], [], [])


@pytest.mark.parametrize("page", EXPLORERS)
def test_a_moved_explorer_says_what_it_shows(opened, page):
    """Would catch a reader who listens hearing nothing, or the description of the frame before."""
    for shown, figure in drawn(opened, page, WIDE):
        control = figure.locator("[data-dial]").first
        step(control, onward(control))
        status = figure.locator(".llm-status")
        shown.wait_for_function("(status) => status.textContent.includes(': ')", arg=status.element_handle())
        description = figure.locator(".llm-plot").get_attribute("aria-label")
        assert description
        assert status.text_content().endswith(description), named(figure, control)
