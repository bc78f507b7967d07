"""A headless Chromium, and what a reader meets on a page: in a wide window by day, there by night, and on a phone.

A page is loaded twice, which is most of what these tests cost: in a wide bright window, where the colours are then
turned to dark as a reader does at dusk, and on a phone that is dark from the beginning. Everything is asked of these
two, and every test reads from what they met. Nothing waits for a time: only for what it wants to see.
"""

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.site import scripts
from tests.site.pages import EXPLORERS, NARROWEST, NIGHT, PHONE, WIDE, Look

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing but this machine has an address: a page that asks elsewhere fails at once, and the browser itself is quiet.
ARGUMENTS = ("--disable-gpu", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
COMPRESSED = {".css", ".html", ".ipynb", ".js", ".json", ".md", ".svg", ".txt"}
# What can differ between the looks is asked again in each: colours at night, sizes and scrolling on a phone.
RULES = {
    WIDE: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    NIGHT: ["color-contrast", "link-in-text-block"],
    PHONE: ["target-size", "scrollable-region-focusable", "aria-hidden-focus", "button-name", "link-name", "label"],
}
# Without preloading: it would fetch the styles' imports, and take their relative addresses for the page's.
CHECKS = {"resultTypes": ["violations"], "preload": False}
WAIT = 120_000  # milliseconds: a busy machine, not a slow page
# Every task of the page, with the processor time it took, and the marks that scripts set.
TRACED = ["disabled-by-default-devtools.timeline", "blink.user_timing"]


@dataclass(frozen=True)
class Visit:
    """What one page did in one look."""

    errors: list[str]  # on the console, uncaught, or of requests that came to nothing
    foreign: list[str]  # requests to another host
    weight: dict[str, int]  # bytes of every file that was fetched, compressed as a server would
    theme: str
    unlike: int  # figures in other colours than the page's
    scroll: int  # CSS pixels that the page is wider than its window
    too_wide: list[str]
    cut: list[str]  # formulas in a line that are wider than the box that shows them
    unsaid: list[str]  # boxes that scroll sideways and do not show it, or that the keyboard does not reach
    squeezed: list[str]  # boxes that scroll sideways beside free space
    hidden: list[str]  # buttons that a finger cannot see, or that share their name
    drawn: int
    failed: list[str]
    red: list[str]  # formulas that could not be set
    values: int | None  # rows of the first figure's table; None where none was opened
    violations: list[str]  # of axe-core, with solutions, code and one table of values open, scrolled
    shifts: list[tuple[float, str]] = field(default_factory=list)  # how far what was to be read moved away
    longest: float = 0.0  # the longest task, in units of scripts.REFERENCE
    unseen: list[str] = field(default_factory=list)  # what takes the focus and does not show it
    stops: dict[str, int] = field(default_factory=dict)  # stops of the Tab key, by kind
    unprintable: list[str] = field(default_factory=list)  # what stands on paper and should not, or is missing there
    dials: dict[str, list[str]] = field(default_factory=dict)  # dials that are dead, stuck, mute or out of reach


def find() -> str | None:
    """The browser named by $CHROME, or the first one on the path."""
    names = [os.environ["CHROME"]] if os.environ.get("CHROME") else NAMES
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def window(browser: Browser, look: Look, *, scripts: bool = True) -> Iterator[Page]:
    """A fresh window without a memory of earlier pages; a narrow one is touched, not pointed at."""
    context = browser.new_context(
        viewport={"width": look.width, "height": 800 if look.phone else 900},
        color_scheme=look.theme,
        has_touch=look.phone,
        reduced_motion="reduce",
        locale="en-GB",
        java_script_enabled=scripts,
    )
    context.set_default_timeout(WAIT)
    try:
        yield context.new_page()
    finally:
        context.close()


def read(page: Page) -> None:
    """Pass by the whole page, as a reader does who opens everything, until each figure has been drawn or has failed."""
    page.evaluate(scripts.OPEN)
    page.evaluate(scripts.PASS)
    page.wait_for_function(scripts.SETTLED)


class Ear:
    """Hears what a page says and asks for, from its first request on."""

    def __init__(self, page: Page, address: str):
        self.errors, self.foreign, self.fetched, self.address = [], [], set(), address
        page.on("request", self._request)
        page.on("requestfailed", lambda request: self.errors.append(f"{request.url}: {request.failure}"))
        page.on("response", self._response)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def _request(self, request) -> None:
        if request.url.startswith(self.address):
            self.fetched.add(unquote(urlsplit(request.url).path).lstrip("/"))
        elif not request.url.startswith(("data:", "blob:")):
            self.foreign.append(request.url)

    def _response(self, reply) -> None:
        if reply.status >= 400:
            self.errors.append(f"{reply.url}: {reply.status}")


def visit(browser: Browser, address: str, folder: Path, name: str) -> dict[Look, Visit]:
    """Read page `name` of the site that lies in `folder` and is served at `address`, in every look."""
    visits = {}

    def see(page: Page, ear: Ear, look: Look, **more) -> None:
        state = page.evaluate(scripts.STATE) | more
        page.evaluate(scripts.THIN)
        rules = {"runOnly": RULES[look]} | CHECKS
        found = Axe().run(page, options=rules).response
        visits[look] = Visit(
            errors=list(ear.errors),
            foreign=list(ear.foreign),
            weight={path: _weight(folder / path) for path in sorted(ear.fetched) if (folder / path).is_file()},
            violations=[_told(violation) for violation in found["violations"]],
            **state,
        )

    def moved(page: Page, look: Look) -> dict:
        """The dials: what they do is the same in every window, so all on the wide one and one page on a phone."""
        if name not in (EXPLORERS if look == WIDE else EXPLORERS[-1:]):
            return {"dials": {}}
        return {"dials": page.evaluate(scripts.MOVE) | {"out of reach": _by_keyboard(page)}}

    with window(browser, WIDE) as page:
        ear, met = Ear(page, address), _come(browser, page, address + name)
        read(page)
        met |= moved(page, WIDE) | page.evaluate(scripts.COPIES)
        page.emulate_media(media="print")
        met |= page.evaluate(scripts.PRINTED)
        page.emulate_media(media="screen")
        page.keyboard.press("Tab")  # from here on the browser shows where the focus is
        met |= page.evaluate(scripts.FOCUS)
        page.evaluate(scripts.OPEN_VALUES)
        see(page, ear, WIDE, **met)
        page.emulate_media(color_scheme=NIGHT.theme)
        page.wait_for_function(scripts.RESTED)
        see(page, ear, NIGHT)
    with window(browser, PHONE) as page:
        ear, met = Ear(page, address), _come(browser, page, address + name)
        read(page)
        met |= moved(page, PHONE) | page.evaluate(scripts.COPIES)
        page.set_viewport_size({"width": NARROWEST, "height": 700})
        page.evaluate(scripts.FRAMES)
        narrow = page.evaluate(scripts.STATE)
        page.set_viewport_size({"width": PHONE.width, "height": 800})
        page.evaluate(scripts.FRAMES)
        see(page, ear, PHONE, **met)
        visits[PHONE].violations.extend(_way_up(page))
        for kind in ("cut", "too_wide"):
            getattr(visits[PHONE], kind).extend(f"at {NARROWEST} px: {found}" for found in narrow[kind])
    return visits


def _come(browser: Browser, page: Page, address: str) -> dict:
    """Load a page and pass by it with everything folded: how far it moved meanwhile, and its longest task.

    A task is measured in processor time, which another program cannot lengthen, and by a task of known work that runs
    behind it, so that a slow machine is not a slow page.
    """
    page.add_init_script(scripts.WATCH)
    browser.start_tracing(page=page, categories=TRACED)
    page.goto(address)
    page.evaluate(scripts.PASS)
    page.wait_for_function(scripts.SETTLED)
    shifts = page.evaluate(scripts.SHIFTS)
    page.evaluate(scripts.REFERENCE)
    page.evaluate(scripts.FRAMES)  # the answer comes from within the task: only now is its end in the trace
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mark = next(one for one in events if one["name"] == "the reference")
    # The page's own thread: the browser's pages, as that of a new tab, have tasks as well.
    here = [one for one in events if (one["pid"], one["tid"]) == (mark["pid"], mark["tid"])]
    tasks = [one for one in here if one["name"] == "RunTask"]
    known = next(one for one in tasks if one["ts"] <= mark["ts"] <= one["ts"] + one.get("dur", 0))
    longest = max(one.get("tdur", 0) for one in tasks if one is not known)
    return {"shifts": [tuple(shift) for shift in shifts], "longest": longest / known["tdur"]}


def _way_up(page: Page) -> list[str]:
    """The theme offers the way to the top on a small window that is scrolled back: its contrast by day and by night."""
    found = []
    for look in (WIDE, PHONE):
        page.emulate_media(color_scheme=look.theme)
        if page.evaluate(scripts.BACK_UP):
            rules = {"runOnly": ["color-contrast"], "resultTypes": ["violations", "passes"], "preload": False}
            seen = Axe().run(page, context={"include": [[scripts.WAY_UP]]}, options=rules).response
            found += [_told(one) for one in seen["violations"]] or ([] if seen["passes"] else ["the way up: not seen"])
    return found


def _by_keyboard(page: Page) -> list[str]:
    """The first dial of every explorer, moved by a key: those that stay as they are."""
    still = []
    for number in range(page.evaluate(scripts.TAKE)):
        before = page.evaluate(scripts.TAKE_DIAL, number)
        page.keyboard.press(before["key"])
        after = page.evaluate(scripts.READ_DIAL)
        if after["value"] == before["value"]:
            still.append(after["name"])
        page.keyboard.press(before["back"])
    return still


def _weight(path: Path) -> int:
    data = path.read_bytes()
    return len(gzip.compress(data, 6)) if path.suffix in COMPRESSED else len(data)


def _told(violation: dict) -> str:
    nodes = violation["nodes"]
    places = "; ".join(" ".join(map(str, node["target"])) for node in nodes[:4])
    reason = next((check["message"] for check in nodes[0]["any"] + nodes[0]["all"] + nodes[0]["none"]), "")
    return f"{violation['id']}: {violation['help']} ({len(nodes)}×: {places}) {reason}"
