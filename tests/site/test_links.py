"""Links: within the site to what is there, out of it to this book's own repository, and downloads as committed."""

import functools
import re
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from bs4 import BeautifulSoup

from publishing.book import STATUS
from tests.site.pages import PAGES, text

HERE = "http://here/"


@functools.cache
def soup(page):
    return BeautifulSoup(text(page), "html.parser")


def links(page):
    """Every address that a page links to or loads, absolute, with the page's own as http://here/…"""
    tags = soup(page).find_all(["a", "link", "script", "img"])
    written = [tag.get("href") or tag.get("src") for tag in tags]
    return [urljoin(HERE + page, link) for link in written if link and not link.startswith(("data:", "javascript:"))]


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_site_lead_somewhere(book, page):
    """Would catch a link to a page, file or heading that is gone: Sphinx does not follow those written as HTML."""
    lost = []
    for link in links(page):
        place = urlsplit(link)
        if not link.startswith(HERE):
            continue
        target = unquote(place.path).lstrip("/")
        if not (book.html / target).is_file():
            lost.append(link)
        elif place.fragment and target.endswith(".html"):
            name = unquote(place.fragment)
            if not soup(target).find(id=name) and not soup(target).find(attrs={"name": name}):
                lost.append(link)
    assert lost == []


def test_every_page_of_the_contents_is_on_the_site(book):
    """Would catch a built site that is not the one of this checkout, and a page that nothing leads to."""
    assert {f"{name}.html" for name in book.toc} <= set(PAGES)
    home = set(links("index.html"))
    assert {f"{HERE}{name}.html" for name in book.toc[1:]} <= home


def notebooks_of(book):
    return {book.name(path).removesuffix(".ipynb"): path for path in book.notebooks}


def test_every_notebook_opens_in_colab_from_this_repository(book):
    """Would catch a launch button that opens another book, another version than it installs, or nothing."""
    url, _ = book.address
    for name, path in notebooks_of(book).items():
        colab = url.replace("https://github.com", "https://colab.research.google.com/github")
        launch = [link for link in links(f"{name}.html") if link.startswith("https://colab.")]
        assert launch[0] == f"{colab}/blob/{book.ref}/{name}.ipynb"
        assert path.is_file()


def test_downloads_are_the_committed_notebooks(book):
    """Would catch a download with outputs, of another version, or none at all."""
    for name, path in notebooks_of(book).items():
        button = soup(f"{name}.html").find(class_="btn-download-source-button")
        target = urlsplit(urljoin(f"{HERE}{name}.html", button["href"])).path.lstrip("/")
        assert (book.html / target).read_bytes() == path.read_bytes(), name


def test_source_links_lead_to_files_of_the_repository(book):
    """Would catch an offer to edit a file that is not in the repository, as the generated page's would be."""
    url, branch = book.address
    for name in book.toc:
        repository = [link for link in links(f"{name}.html") if link.startswith(url)]
        assert url in repository
        edits = [link for link in repository if "/edit/" in link]
        assert len(edits) == (not book.is_generated(name)), name
        for link in edits:
            assert link.startswith(f"{url}/edit/{branch}/")
            assert (book.root / link.removeprefix(f"{url}/edit/{branch}/")).is_file(), link


def test_the_status_page_has_a_row_for_every_notebook(book):
    """Would catch a chapter without a record, or one shown without having been run."""
    if STATUS not in book.toc:
        pytest.skip("this book has no status page")
    table = soup(f"{STATUS}.html").find("table")
    rows = [[cell.get_text(strip=True) for cell in row.find_all("td")] for row in table.find_all("tr")[1:]]
    listed = [row.find("a")["href"] for row in table.find_all("tr")[1:] if row.find("a")]
    assert listed == [f"{name}.html" for name in notebooks_of(book)]
    for row in rows[: len(listed)]:
        assert re.fullmatch(r"\d+ (s|min \d+ s)", row[1]), row
        assert re.fullmatch(r"[\d.]+ [MG]B", row[2]), row
        kept, of = row[3].split(" of ")
        assert kept == of, row
        assert int(row[4]) > 0, row
