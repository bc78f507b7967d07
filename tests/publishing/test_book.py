"""The table of contents and the chapters agree, and bad configuration is told in one line."""

import pytest
import yaml

from publishing.__main__ import main
from publishing.book import Book, BookError


def test_pages_in_reading_order(book):
    """Would catch sorting by file name instead of by the table of contents."""
    assert [book.name(path) for path in book.pages] == [
        "index.md",
        "chapters/one/attention.ipynb",
        "chapters/two/attention.ipynb",
    ]


def test_chapter_that_is_not_listed(book, author):
    """Would catch a chapter that is never built, run or checked because nobody listed it."""
    author.write(book, "chapters/two/lost.ipynb", author.cells("Lost"))
    with pytest.raises(BookError, match=r"chapters/two/lost\.ipynb is not in _toc\.yml: list it"):
        _ = book.pages


def test_listed_chapter_without_a_file(book):
    """Would catch a silent hole in the site: Jupyter Book skips what it cannot find."""
    (book.root / "chapters/one/attention.ipynb").unlink()
    with pytest.raises(BookError, match=r"_toc\.yml lists chapters/one/attention, which has no file"):
        _ = book.pages


def test_chapter_listed_twice(book):
    """Would catch two pages fighting for one address."""
    toc = yaml.safe_load((book.root / "_toc.yml").read_text())
    toc["parts"][0]["chapters"].append({"file": "chapters/one/attention"})
    (book.root / "_toc.yml").write_text(yaml.safe_dump(toc))
    with pytest.raises(BookError, match="lists twice: chapters/one/attention"):
        _ = Book(book.root).pages


@pytest.mark.parametrize("name", ["two/attention", "chapters/two/attention", "chapters/two/attention.ipynb"])
def test_chapter_by_name(book, name):
    """Would catch CHAPTER= finding the namesake of another part."""
    assert book.name(book.find(name)) == "chapters/two/attention.ipynb"


def test_a_draft_is_found_before_it_is_listed(book, author):
    """Would catch a `make refresh` that is of no use while a chapter is written."""
    draft = author.write(book, "chapters/two/draft.ipynb", author.cells("Draft"))
    assert book.find("two/draft") == draft


def test_unknown_chapter(book):
    """Would catch a typing error that builds nothing and says so nowhere."""
    with pytest.raises(BookError, match="no chapter 'attention': there are one/attention, two/attention"):
        book.find("attention")


def test_broken_configuration_is_one_line(book, capsys):
    """Would catch a traceback of the YAML parser where the name of the file would do."""
    (book.root / "_toc.yml").write_text("root: [index\n")
    assert main(["--root", str(book.root), "check"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: _toc.yml is not valid YAML")
    assert len(message.splitlines()) == 1


def test_notebook_that_is_not_one(book, capsys):
    """Would catch a traceback for a notebook with a merge conflict in it."""
    path = book.root / "chapters/one/attention.ipynb"
    path.write_text("<<<<<<< HEAD\n" + path.read_text())
    assert main(["--root", str(book.root), "check"]) == 1
    assert "is not a notebook" in capsys.readouterr().err
