"""The built site on paper: every page, or one, printed by a headless Chromium into `_build/pdf`.

A page is read before it is printed, for figures are drawn when they come near; on paper an explorer is the figure it
begins with, hints and solutions are open, and the code that only draws stays folded (book.css and site.js see to it).
"""

import os
import shutil
import tempfile
import threading
from pathlib import Path

from .book import Book, BookError
from .files import write_bytes
from .serve import server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MARGIN = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
WAIT = 120_000  # milliseconds
READ = """async () => {
  await document.fonts.ready;
  await Promise.all([...document.querySelectorAll("figure.llm-figure")].map((box) => window.llmExplorer.mount(box)));
}"""


def pdf(book: Book, chapter: str | None = None) -> list[Path]:
    """Print every page of the built site, or `chapter` alone, and say where each lies.

    Raises BookError without a site, without the browser's driver, and without a browser.
    """
    names = [os.environ["CHROME"]] if os.environ.get("CHROME") else NAMES
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        raise BookError(f"no Chromium to print with, looked for {', '.join(names)}: install one, or name it in CHROME.")
    pages = [book.name(book.find(chapter)).removesuffix(".ipynb")] if chapter else book.toc
    written = []
    with server(book, 18900) as web, sync_playwright() as started:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        browser = started.chromium.launch(executable_path=path, args=["--disable-gpu", "--no-first-run"])
        try:
            for name in pages:
                page = browser.new_page(color_scheme="light", reduced_motion="reduce")
                page.set_default_timeout(WAIT)
                page.goto(f"http://127.0.0.1:{web.server_port}/{name}.html")
                page.evaluate(READ)
                target = book.build / "pdf" / f"{name}.pdf"
                with tempfile.TemporaryDirectory() as folder:
                    page.pdf(path=Path(folder) / "page.pdf", format="A4", margin=MARGIN, print_background=False)
                    write_bytes(target, (Path(folder) / "page.pdf").read_bytes())
                page.close()
                print(target, flush=True)
                written.append(target)
        finally:
            browser.close()
            web.shutdown()
    return written
