"""What the reader moves, moves the data: every slider and every menu of every explorer; and nobody waits for them."""

import time

import pytest

from tests.site.pages import EXPLORERS, PHONE, WIDE, text

SHOWN = """(figure) => {
  const plot = figure.querySelector(".llm-plot");
  const plain = (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
  // The line below the title is all that changes where the lesson is that nothing does.
  const below = figure.querySelector(".llm-subtitle")?.textContent;
  return JSON.stringify([plot.data, plot.layout.annotations, plot.layout.shapes, below], plain);
}"""

SAID = """(figure) => [figure.querySelector(".llm-status").textContent,
  figure.querySelector(".llm-plot").getAttribute("aria-label")]"""
# What a dial does is the same in every window; how it is drawn there is seen by test_pages.py. One page on a phone.
LOOKS = [(page, WIDE) for page in EXPLORERS] + [(EXPLORERS[-1], PHONE)]


def drawn(shown):
    """The explorers of a page; solutions are opened, for some lie in one."""
    shown.evaluate("document.querySelectorAll('main details').forEach((box) => { box.open = true; })")
    shown.evaluate("document.querySelectorAll('.llm-predict [data-skip]').forEach((button) => button.click())")
    figures = shown.locator("figure.llm-figure:has([data-dial])")
    for number in range(figures.count()):
        figure = figures.nth(number)
        figure.scroll_into_view_if_needed()
        shown.wait_for_function("(figure) => figure.dataset.state === 'explorer'", arg=figure.element_handle())
        yield figure


def differs(figure, before, seconds=20.0):
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


def says_what_it_shows(figure, seconds=20.0):
    """Whether the line for those who listen comes to end with the description of what is drawn."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said, description = figure.evaluate(SAID)
        if description and ": " in said and said.endswith(description):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("page", "look"), [pytest.param(*at, id=f"{at[0]}-{at[1]}") for at in LOOKS])
def test_every_dial_changes_what_is_shown_and_back(opened, page, look):
    """Would catch a dial that is dead, stuck, mute, out of step with the data, or out of the keyboard's reach."""
    dead, stuck, mute = [], [], []
    for figure in drawn(opened(page, look)):
        for number, control in enumerate(figure.locator("[data-dial]").all()):
            before, said = figure.evaluate(SHOWN), control.locator("xpath=..").inner_text()
            direction = onward(control)
            step(control, direction)
            if differs(figure, before) == before:
                dead.append(named(figure, control))
                continue
            if control.evaluate("(c) => c.localName") == "input" and control.locator("xpath=..").inner_text() == said:
                mute.append(named(figure, control))
            if number == 0 and not says_what_it_shows(figure):
                mute.append(named(figure, control))
            after = figure.evaluate(SHOWN)
            step(control, -direction)
            if differs(figure, after) != before:
                stuck.append(named(figure, control))
    assert (dead, stuck, mute) == ([], [], [])


# Counts what is drawn before the browser can do anything else: a call in the same task finds the flag still up.
ONE_A_TASK = """
let plotly, busy = false;
window.together = 0;
const frame = () => { busy = false; requestAnimationFrame(frame); }; // the first thing that is done in a frame
requestAnimationFrame(frame);
const counted = (draw) => (...given) => {
  if (busy) window.together += 1;
  busy = true;
  scheduler.postTask(() => { busy = false; }, { priority: "user-blocking" });
  return draw(...given);
};
Object.defineProperty(window, "Plotly", {
  get: () => plotly,
  set: (value) => { plotly = { ...value, react: counted(value.react) }; },
});
"""


@pytest.mark.parametrize("page", sorted(EXPLORERS, key=lambda page: -text(page).count("llm-figure"))[:2])
def test_figures_are_drawn_one_at_a_time(browser, address, page):
    """Would catch a page that draws all its figures in one go, while the reader's keys and fingers wait."""
    from tests.site.browser import REST, read, window

    with window(browser, WIDE) as shown:
        shown.add_init_script(ONE_A_TASK)
        shown.goto(address + page)
        read(shown)
        assert shown.locator("figure[data-state=figure], figure[data-state=explorer]").count() > 1
        assert shown.evaluate("window.together") == 0
        shown.evaluate("document.documentElement.dataset.theme = 'dark'")  # all of them in other colours
        shown.evaluate(REST)
        assert shown.evaluate("window.together") == 0
