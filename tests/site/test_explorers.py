"""What the reader moves, moves the data: every slider and every menu of every explorer; and nobody waits for them."""

import pytest

from tests.site.pages import EXPLORERS, PHONE, WIDE, text

# What a dial does is the same in every window; how it is drawn there is seen by test_pages.py. One page on a phone.
LOOKS = [(page, WIDE) for page in EXPLORERS] + [(EXPLORERS[-1], PHONE)]
MOVED = [pytest.param(page, look, id=f"{page}-{look}", marks=pytest.mark.xdist_group(page)) for page, look in LOOKS]


@pytest.mark.parametrize(("page", "look"), MOVED)
def test_every_dial_changes_what_is_shown_and_back(met, page, look):
    """Would catch a dial that is dead, stuck, mute, out of step with the data, or out of the keyboard's reach."""
    assert met(page, look).dials == {"dead": [], "stuck": [], "mute": [], "out of reach": []}


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
    from tests.site import scripts
    from tests.site.browser import read, window

    with window(browser, WIDE) as shown:
        shown.add_init_script(ONE_A_TASK)
        shown.goto(address + page)
        read(shown)
        assert shown.locator("figure[data-state=figure], figure[data-state=explorer]").count() > 1
        assert shown.evaluate("window.together") == 0
        shown.evaluate("document.documentElement.dataset.theme = 'dark'")  # all of them in other colours
        shown.evaluate(scripts.FRAMES)
        assert shown.evaluate("window.together") == 0
