"""The rendered site: warnings are errors, nothing from elsewhere, clean notebooks to download."""

import re
import shutil
from pathlib import Path

import plotly.offline
import pytest
import yaml

from publishing import notebooks
from publishing.book import ROOT, Book, BookError
from publishing.build import build
from publishing.execute import target
from publishing.merge import assemble
from publishing.render import render
from publishing.serve import server
from publishing.vendor import MATHJAX, sha256
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
    assert "tex-chtml" not in text  # this chapter has no formula


def test_a_numbered_matrix_is_a_formula(site):
    """Would catch red letters in place of a formula: MathJax refuses the number inside Sphinx's split."""
    text = (site.html / "index.html").read_text()
    assert r"\tag{1}" in text
    assert r"\begin{split}" not in text


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
    rows = re.findall(r"^\| \S+ \| (\S+) \| \S+ \| (\S+) \| `(\w{64})` \|$", (VENDOR / "README.md").read_text(), re.M)
    listed = {name: digest for _, name, digest in rows}
    there = {p.relative_to(VENDOR).as_posix() for p in VENDOR.rglob("*") if p.is_file() and p.name != "README.md"}
    assert set(listed) == there
    assert {name: sha256(VENDOR / name) for name in listed} == listed
    assert {"plotly.LICENSES", "mathjax/LICENSE"} <= there
    assert {version for version, name, _ in rows if "mathjax" in name} == {MATHJAX}


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
