"""The built site under a local address, a browser, and one visit to every page in every look.

The tests need the site (`make book`) and a Chromium; without one of them they are skipped and say so. Under CI a
missing browser is an error: there the tests must have run.
"""

import contextlib
import functools
import os
import threading

import pytest

from publishing.book import Book
from publishing.serve import server

BOOK = Book()


@pytest.fixture(scope="session")
def book() -> Book:
    """This checkout, with its site built."""
    if not (BOOK.html / "index.html").is_file():
        pytest.skip("there is no built site: run `make book`")
    return BOOK


@pytest.fixture(scope="session")
def address(book) -> str:
    """Where the site is served while the tests run; ends with a slash."""
    with server(book, 18800) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}/"
        web.shutdown()


@pytest.fixture(scope="session")
def browser(book):
    """A headless Chromium."""
    # Not at the top: whoever runs all tests of a checkout need not have it.
    playwright = pytest.importorskip("playwright.sync_api", reason="the tests of the site need it: `make test-site`")
    from tests.site.browser import ARGUMENTS, find

    path = find()
    if path is None:
        reason = "no Chromium on this machine: install one, or name it in CHROME"
        if os.environ.get("CI", "").lower() in ("", "0", "false"):
            pytest.skip(reason)
        pytest.fail(reason)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def met(browser, address, book):
    """met(page, look): what the browser met there; a page is read once, however many tests ask."""
    from tests.site.browser import visit

    visits = functools.cache(functools.partial(visit, browser, address, book.html))
    return lambda page, look: visits(page)[look]


@pytest.fixture
def opened(browser, address):
    """opened(page, look): the page in a fresh window, loaded, for a test that acts on it."""
    from tests.site.browser import window

    with contextlib.ExitStack() as windows:

        def go(name, look):
            page = windows.enter_context(window(browser, look))
            page.goto(address + name)
            return page

        yield go
