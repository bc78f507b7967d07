"""The repository's address: changed by one command, and checked wherever it is repeated."""

import pytest

from publishing.__main__ import main
from publishing.address import change, stale
from publishing.book import Book, BookError
from publishing.contract import problems

README = (
    "Clone with `git clone https://github.com/someone/book`, or open it in "
    "https://colab.research.google.com/github/someone/book/blob/main/index.ipynb\n"
    "See [issues](https://github.com/someone/book/issues) and https://github.com/someone/bookshelf.\n"
)


def test_one_command_changes_every_place(book):
    """Would catch Colab installing the library of the repository the book has left."""
    (book.root / "README.md").write_text(README)
    (book.root / "CITATION.cff").write_text("repository-code: https://github.com/someone/book\n")
    form = book.root / ".github/ISSUE_TEMPLATE/config.yml"
    form.parent.mkdir(parents=True)
    form.write_text("url: https://github.com/someone/book/security\n")
    changed = change(book, "https://github.com/other/llms", "stable")
    assert changed == [
        "_config.yml",
        "README.md",
        "CITATION.cff",
        ".github/ISSUE_TEMPLATE/config.yml",
        "chapters/one/attention.ipynb",
        "chapters/two/attention.ipynb",
    ]
    assert form.read_text() == "url: https://github.com/other/llms/security\n"
    moved = Book(book.root)
    assert moved.address == ("https://github.com/other/llms", "stable")
    text = (book.root / "README.md").read_text()
    assert "git clone https://github.com/other/llms`" in text
    assert "/github/other/llms/blob/stable/index.ipynb" in text
    assert "other/llms/issues" in text
    assert "someone/bookshelf" in text
    assert stale(moved) == []
    assert problems(moved, moved.notebooks[0]) == []


def test_a_release_keeps_its_tag_at_a_new_address(book):
    """Would catch a move of the repository that makes a release's notebooks install the branch."""
    project = book.root / "lib/pyproject.toml"
    project.write_text(project.read_text().replace("0.1.0.dev0", "0.1.0"))
    change(Book(book.root), "https://github.com/other/llms")
    assert "other/llms@v0.1.0#subdirectory=lib" in book.notebooks[0].read_text()
    assert stale(Book(book.root)) == []


def test_the_comments_of_the_configuration_stay(book):
    """Would catch a rewrite of _config.yml through a YAML writer, which drops them."""
    config = book.root / "_config.yml"
    config.write_text("# a remark\n" + config.read_text())
    change(book, "https://github.com/other/llms")
    assert config.read_text().startswith("# a remark\n")


def test_a_stale_address_is_found(book):
    """Would catch a badge in the README that opens someone else's notebook."""
    (book.root / "README.md").write_text(README.replace("/someone/book/blob", "/elsewhere/book/blob"))
    (problem,) = stale(book)
    assert "elsewhere/book/blob/main" in problem
    assert "make address" in problem


@pytest.mark.parametrize("url", ["github.com/other/llms", "https://github.com/other", "https://example.org/a/b", ""])
def test_not_an_address(book, url, capsys):
    """Would catch a half-typed address spreading through every notebook."""
    before = (book.root / "_config.yml").read_bytes()
    with pytest.raises(BookError, match="not a repository's address"):
        change(book, url)
    assert main(["--root", str(book.root), "address", url]) == 1
    assert repr(url) in capsys.readouterr().err
    assert (book.root / "_config.yml").read_bytes() == before
