"""The rendered site: warnings are errors, nothing from elsewhere, clean notebooks to download."""

import re
import shutil
from pathlib import Path

import plotly.offline
import pytest
import yaml
from bs4 import BeautifulSoup

from publishing import notebooks
from publishing.book import ROOT, Book, BookError
from publishing.build import build
from publishing.execute import target
from publishing.merge import assemble
from publishing.render import render
from publishing.serve import server
from publishing.vendor import PACKAGES, sha256
from tests.publishing.conftest import make_book

VENDOR = ROOT / "web" / "vendor"
# One worker renders the small book for all of them.
pytestmark = pytest.mark.xdist_group("site")

FOREIGN = re.compile(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*\"[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The small book, rendered once for this module, without running its notebooks."""
    made = make_book(tmp_path_factory.mktemp("site") / "checkout")
    executed = {}
    for source in made.notebooks:
        executed[source] = target(made, source, {})
        notebooks.write(executed[source], notebooks.read(source))
    build(made)
    return made


def test_nothing_is_fetched_from_elsewhere(site):
    """Would catch a script, font or picture of another host, which fails offline and tells others who reads."""
    for page in site.html.rglob("*.html"):
        tags = [tag for tag in FOREIGN.findall(page.read_text()) if 'rel="canonical"' not in tag]
        assert tags == [], page.name
    for style in site.html.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)|@import[^;]*//", style.read_text()), style.name


def test_what_no_reader_needs_is_gone(site):
    """Would catch a megabyte of icons drawn twice, a foreign kernel, and source maps."""
    text = (site.html / "chapters/one/attention.html").read_text()
    assert "fontawesome.js" not in text
    assert "sphinx-thebe" not in text
    assert not list(site.html.rglob("*.map"))
    assert "katex" not in text  # this chapter has no formula
    assert not (site.html / "_static/vendor/katex/katex.min.js").exists()  # formulas are set by now


def test_a_formula_is_set_before_anybody_reads_it(site):
    """Would catch a formula that waits for a script, one without MathML or TeX, and a matrix that loses its number."""
    soup = BeautifulSoup((site.html / "index.html").read_text(), "html.parser")
    block = soup.find("div", class_="math")
    assert block.math.mtable
    assert block.find(class_="katex-html")["aria-hidden"] == "true"
    assert block.annotation.string.startswith(r"\begin{pmatrix}")
    assert block.find(class_="katex-tag").get_text() == "(1)"
    assert soup.find("link", href=re.compile("katex.min.css"))
    for font in soup.find_all("link", rel="preload", attrs={"as": "font"}):
        assert (site.html / font["href"]).is_file(), font["href"]


def test_a_formula_that_cannot_be_set_stops_the_build(site, author, tmp_path):
    """Would catch TeX in red letters on a page: the build names the place instead."""
    copy = Book(Path(shutil.copytree(site.root, tmp_path / "checkout")))
    author.edit(copy.root / "chapters/one/attention.ipynb", "c4", source=r"The $\fraction{1}{2}$ of it.")
    with pytest.raises(BookError, match=r"(?s)^chapters/one/attention\.ipynb, cell 6.*cannot be set.*fraction"):
        build(copy)


def test_page_offers_colab_source_and_clean_notebook(site):
    """Would catch buttons that lead to another repository, or a download full of figures."""
    text = (site.html / "chapters/one/attention.html").read_text()
    assert "colab.research.google.com/github/someone/book/blob/main/chapters/one/attention.ipynb" in text
    assert "https://github.com/someone/book/edit/main/chapters/one/attention.ipynb" in text
    assert "_sources/chapters/one/attention.ipynb" in text
    download = site.html / "_sources/chapters/one/attention.ipynb"
    assert download.read_bytes() == (site.root / "chapters/one/attention.ipynb").read_bytes()


def test_page_has_a_description_and_named_folds(site):
    """Would catch search engines showing the set-up cell, and folds that do not say what is in them."""
    text = (site.html / "chapters/one/attention.html").read_text()
    assert '<meta name="description" content="What does it answer? One sentence' in text
    assert "<p>Set-up</p>" in text
    assert text.count("<p>Solution</p>") == 3
    assert "Show code cell" not in text


def test_unchanged_book_renders_nothing(site):
    """Would catch a rebuild that takes as long as the first build."""
    executed = {source: target(site, source, {}) for source in site.notebooks}
    assert render(site, assemble(site, executed)) is False


def test_a_warning_stops_the_build_every_time(site, author, tmp_path):
    """Would catch a broken link that only the first build reports: the second has the page in its cache."""
    copy = Book(Path(shutil.copytree(site.root, tmp_path / "checkout")))
    author.edit(copy.root / "chapters/one/attention.ipynb", "c4", source="See [nothing](../two/nowhere.ipynb).")
    for _ in range(2):
        with pytest.raises(BookError, match=r"(?s)^chapters/one/attention\.ipynb, cell 6.*nowhere.*count as errors"):
            build(copy)


def test_plotly_is_the_version_that_python_speaks():
    """Would catch figures whose attributes the page's plotly.js does not know."""
    head = (VENDOR / "plotly.min.js").read_text()[:200]
    assert f"v{plotly.offline.get_plotlyjs_version()}" in head


def test_vendored_files_are_what_the_list_says():
    """Would catch an edited or truncated library, and one without its licence."""
    rows = re.findall(r"^\| (\S+) \| (\S+) \| \S+ \| (\S+) \| `(\w{64})` \|$", (VENDOR / "README.md").read_text(), re.M)
    listed = {name: digest for _, _, name, digest in rows}
    there = {p.relative_to(VENDOR).as_posix() for p in VENDOR.rglob("*") if p.is_file() and p.name != "README.md"}
    assert set(listed) == there
    assert {name: sha256(VENDOR / name) for name in listed} == listed
    assert {"plotly.LICENSES", "katex/LICENSE", "minisearch/LICENSE"} <= there
    assert {(name, version) for name, version, _, _ in rows} == {
        ("plotly.js", plotly.offline.get_plotlyjs_version()),
        *((one.name, one.version) for one in PACKAGES),
    }


def test_the_book_of_this_checkout_has_an_address():
    """Would catch a configuration that the launch buttons and the set-up cells cannot be derived from."""
    url, branch = Book().address
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", url)
    assert branch == "main"
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["only_build_toc_files"] is True


def test_serve_takes_the_next_free_port(site, book):
    """Would catch a traceback because another server runs already, or because nothing is built."""
    with server(site, 18700) as first, server(site, 18700) as second:
        assert second.server_port > first.server_port
    with pytest.raises(BookError, match="run `make book` first"):
        server(book)


def test_the_set_up_is_one_block(site):
    """Would catch a page that opens with the scale and the imports, shown or folded one by one."""
    text = (site.html / "chapters/one/attention.html").read_text()
    block = text[text.index("<p>Set-up</p>") : text.index("</details>")]
    assert "importlib" in block
    assert "auto" in block
    assert "tag_opening" not in text


def test_a_page_names_its_address_and_what_needs_scripts(site):
    """Would catch paper that does not say where it comes from, and silence where scripts are off."""
    text = (site.html / "chapters/one/attention.html").read_text()
    assert '<noscript><p class="book-word">Without JavaScript' in text
    assert re.search(r"book-address\"[^>]*>https://[\w.-]+/book/chapters/one/attention\.html</p>", text)
