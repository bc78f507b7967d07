"""A headless Chromium, and what a reader meets on a page: in a wide window by day, there by night, and on a phone.

A page is loaded twice, which is most of what these tests cost: in a wide bright window, where the colours are then
turned to dark as a reader does at dusk, and on a phone that is dark from the beginning.
"""

import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.site.pages import NIGHT, PHONE, WIDE, Look

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

# Solutions, code and predictions are opened, and every figure is passed by: only what comes near is drawn.
READ = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await document.fonts.ready;
  await window.MathJax?.startup?.promise;
  for (const box of document.querySelectorAll("main details:not(.llm-values)")) box.open = true;
  for (const skip of document.querySelectorAll(".llm-predict [data-skip]")) skip.click();
  for (const box of document.querySelectorAll("figure.llm-figure, footer")) {
    box.scrollIntoView({ behavior: "instant" });
    await frame(); await frame();
  }
  scrollTo({ top: 0, behavior: "instant" });
}"""
SETTLED = """() => [...document.querySelectorAll("figure.llm-figure")].every((figure) => figure.dataset.state)
  && [...document.querySelectorAll(".llm-playground")].every((box) => box.dataset.state !== "loading")"""
OPEN_VALUES = """() => { const values = document.querySelector(".llm-values"); if (values) values.open = true; }"""
# Until what was asked for is on the screen: a table of values, a figure in other colours.
REST = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await new Promise((done) => setTimeout(done, 300));
  while (document.querySelector("figure[aria-busy]")) await frame();
  await frame(); await frame();
}"""
STATE = """() => {
  const width = document.documentElement.clientWidth;
  const clipped = (element) => {
    for (let box = element.parentElement; box; box = box.parentElement)
      if (box !== document.body && box !== document.documentElement && getComputedStyle(box).overflowX !== "visible")
        return true;
    return false;
  };
  const name = (element) => element.tagName.toLowerCase() + [...element.classList].map((c) => "." + c).join("");
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && !clipped(element);
  const too_wide = [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > width + 1 && shown(element))
    .map((element) => `${name(element)} to ${Math.round(element.getBoundingClientRect().right)} px`);
  const drawn = (plot) => plot.classList.contains("js-plotly-plot") && plot.querySelector(".main-svg")
    && plot._fullData?.length > 0;
  const plots = [...document.querySelectorAll("figure.llm-figure .llm-plot")].filter(drawn);
  const text = getComputedStyle(document.documentElement).getPropertyValue("--pst-color-text-base").trim();
  return {
    theme: document.documentElement.dataset.theme,
    unlike: plots.filter((plot) => plot._fullLayout.font.color !== text).length,
    scroll: document.documentElement.scrollWidth - width,
    too_wide: too_wide.slice(0, 5),
    drawn: plots.length,
    failed: [...document.querySelectorAll("figure[data-state=failed] .llm-title")].map((title) => title.textContent),
    values: document.querySelector(".llm-values[open]")?.querySelectorAll("tr").length ?? null,
    red: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((error) => error.textContent),
  };
}"""
# axe takes a minute for a page with ten thousand words of code. One of each kind is enough: of the words that look
# alike and stand in alike places all but the first are taken out, once everything else has been asked.
THIN = """() => {
  const seen = new Set();
  const again = (element) => {
    const style = getComputedStyle(element), kind = [style.color, style.fill, style.fontSize, style.fontWeight];
    for (let box = element, up = 0; box && up < 4; box = box.parentElement, up++)
      kind.push(box.localName + "." + (box.getAttribute("class") ?? ""));
    return seen.has(kind.join()) || !seen.add(kind.join());
  };
  const kinds = [".highlight span, .llm-values td", "mjx-container:not([tabindex])", ".main-svg text"];
  const [words, formulas, labels] = kinds.map((kind) => [...document.querySelectorAll(kind)].filter(again));
  for (const one of words) one.remove();
  for (const one of formulas) one.replaceChildren();
  for (const one of labels) one.style.visibility = "hidden"; // the figure will want them when it is drawn again
}"""


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
    drawn: int
    failed: list[str]
    red: list[str]  # formulas that could not be set
    values: int | None  # rows of the first figure's table; None where none was opened
    violations: list[str]  # of axe-core, with solutions, code and one table of values open


def find() -> str | None:
    """The browser named by $CHROME, or the first one on the path."""
    names = [os.environ["CHROME"]] if os.environ.get("CHROME") else NAMES
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def window(browser: Browser, look: Look) -> Iterator[Page]:
    """A fresh window without a memory of earlier pages; a narrow one is touched, not pointed at."""
    size = {"width": look.width, "height": 800 if look.phone else 900}
    context = browser.new_context(
        viewport=size, color_scheme=look.theme, has_touch=look.phone, reduced_motion="reduce", locale="en-GB"
    )
    context.set_default_timeout(WAIT)
    try:
        yield context.new_page()
    finally:
        context.close()


def read(page: Page) -> None:
    """Pass by the whole page, as a reader does, until every figure has been drawn or has failed."""
    page.evaluate(READ)
    page.wait_for_function(SETTLED)


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

    def see(page: Page, ear: Ear, look: Look) -> None:
        state = page.evaluate(STATE)
        page.evaluate(THIN)
        rules = {"runOnly": RULES[look]} | CHECKS
        found = Axe().run(page, options=rules).response
        visits[look] = Visit(
            errors=list(ear.errors),
            foreign=list(ear.foreign),
            weight={path: _weight(folder / path) for path in sorted(ear.fetched) if (folder / path).is_file()},
            violations=[_told(violation) for violation in found["violations"]],
            **state,
        )

    with window(browser, WIDE) as page:
        ear = Ear(page, address)
        page.goto(address + name)
        read(page)
        page.evaluate(OPEN_VALUES)
        page.evaluate(REST)
        see(page, ear, WIDE)
        page.emulate_media(color_scheme=NIGHT.theme)
        page.evaluate(REST)
        see(page, ear, NIGHT)
    with window(browser, PHONE) as page:
        ear = Ear(page, address)
        page.goto(address + name)
        read(page)
        see(page, ear, PHONE)
    return visits


def _weight(path: Path) -> int:
    data = path.read_bytes()
    return len(gzip.compress(data, 6)) if path.suffix in COMPRESSED else len(data)


def _told(violation: dict) -> str:
    nodes = violation["nodes"]
    places = "; ".join(" ".join(map(str, node["target"])) for node in nodes[:4])
    reason = next((check["message"] for check in nodes[0]["any"] + nodes[0]["all"] + nodes[0]["none"]), "")
    return f"{violation['id']}: {violation['help']} ({len(nodes)}×: {places}) {reason}"
