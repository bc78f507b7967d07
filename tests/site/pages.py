"""Which pages there are, known before the tests run, and the looks they are seen in."""

from dataclasses import dataclass

from publishing.book import Book


@dataclass(frozen=True)
class Look:
    """How a reader sees the site: the colours his system asks for, and the width of the window in CSS pixels."""

    theme: str
    width: int

    def __str__(self) -> str:
        return f"{self.theme}-{self.width}"

    @property
    def phone(self) -> bool:
        return self.width < 600


HTML = Book().html
BUILT = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
LOOKS = WIDE, NIGHT, PHONE = Look("light", 1280), Look("dark", 1280), Look("dark", 360)
NARROWEST = 320  # the smallest phones: what must fit is measured there as well


def text(page: str) -> str:
    """The markup of a page as it was built; empty where nothing was."""
    path = HTML / page
    return path.read_text(encoding="utf-8") if path.is_file() else ""


# Without a site one page is enough to say so.
PAGES = BUILT or ["index.html"]
PREDICTIONS = [page for page in PAGES if 'class="llm-predict"' in text(page)]
EXPLORERS = [page for page in PAGES if "data-dial=" in text(page)] or PAGES[:1]
