"""A headless Chromium, and one visit to a page: everything a reader would meet there, in one look at a time."""

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

from tests.site.pages import Look

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing but this machine has an address: a page that asks elsewhere fails at once, and the browser itself is quiet.
ARGUMENTS = ("--disable-gpu", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
COMPRESSED = {".css", ".html", ".ipynb", ".js", ".json", ".md", ".svg", ".txt"}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Without preloading: it would fetch the styles' imports, and take their relative addresses for the page's.
CHECKS = {"runOnly": RULES, "resultTypes": ["violations"], "preload": False}
WAIT = 20_000  # milliseconds: a busy machine, not a slow page

# Solutions and code are opened, and the whole page is passed by: only what comes near is drawn.
READ = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await document.fonts.ready;
  await window.MathJax?.startup?.promise;
  for (const box of document.querySelectorAll("main details:not(.llm-values)")) box.open = true;
  for (let y = 0; y < document.documentElement.scrollHeight; y += 400) {
    scrollTo({ top: y, behavior: "instant" });
    await frame(); await frame();
  }
  scrollTo({ top: 0, behavior: "instant" });
}"""
SETTLED = """() => [...document.querySelectorAll("figure.llm-figure")].every((figure) => figure.dataset.state)"""
OPEN_VALUES = """async () => {
  const values = document.querySelector(".llm-values");
  if (!values) return null;
  values.open = true;
  await new Promise((done) => setTimeout(done, 300));
  return values.querySelectorAll("tr").length;
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
  const too_wide = [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > width + 1 && !clipped(element))
    .map((element) => `${name(element)} to ${Math.round(element.getBoundingClientRect().right)} px`);
  const drawn = (plot) => plot.classList.contains("js-plotly-plot") && plot.querySelector(".main-svg")
    && plot._fullData?.length > 0;
  return {
    theme: document.documentElement.dataset.theme,
    scroll: document.documentElement.scrollWidth - width,
    too_wide: too_wide.slice(0, 5),
    drawn: [...document.querySelectorAll("figure.llm-figure .llm-plot")].filter(drawn).length,
    failed: [...document.querySelectorAll("figure[data-state=failed] .llm-title")].map((title) => title.textContent),
    red: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((error) => error.textContent),
  };
}"""


@dataclass(frozen=True)
class Visit:
    """What one page did in one look."""

    errors: list[str]  # on the console, uncaught, or of requests that came to nothing
    foreign: list[str]  # requests to another host
    weight: dict[str, int]  # bytes of every file that was fetched, compressed as a server would
    theme: str
    scroll: int  # CSS pixels that the page is wider than its window
    too_wide: list[str]
    drawn: int
    failed: list[str]
    red: list[str]  # formulas that could not be set
    values: int | None  # rows of the first figure's table; None without a figure
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


def visit(browser: Browser, address: str, folder: Path, name: str, look: Look) -> Visit:
    """Read page `name` of the site that lies in `folder` and is served at `address`."""
    errors, foreign, fetched = [], [], set()

    def ask(request) -> None:
        if request.url.startswith(address):
            fetched.add(unquote(urlsplit(request.url).path).lstrip("/"))
        elif not request.url.startswith(("data:", "blob:")):
            foreign.append(request.url)

    with window(browser, look) as page:
        page.on("request", ask)
        page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
        page.on(
            "response", lambda reply: errors.append(f"{reply.url}: {reply.status}") if reply.status >= 400 else None
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address + name)
        read(page)
        values = page.evaluate(OPEN_VALUES)
        state = page.evaluate(STATE)
        found = Axe().run(page, options=CHECKS).response
    return Visit(
        errors=errors,
        foreign=foreign,
        weight={path: _weight(folder / path) for path in sorted(fetched) if (folder / path).is_file()},
        values=values,
        violations=[_told(violation) for violation in found["violations"]],
        **state,
    )


def _weight(path: Path) -> int:
    data = path.read_bytes()
    return len(gzip.compress(data, 6)) if path.suffix in COMPRESSED else len(data)


def _told(violation: dict) -> str:
    nodes = violation["nodes"]
    places = "; ".join(" ".join(map(str, node["target"])) for node in nodes[:4])
    reason = next((check["message"] for check in nodes[0]["any"] + nodes[0]["all"] + nodes[0]["none"]), "")
    return f"{violation['id']}: {violation['help']} ({len(nodes)}×: {places}) {reason}"
