"""Printing: what is missing is named before anything is begun."""

import pytest

from publishing.book import Book, BookError
from publishing.pdf import pdf


def test_a_machine_without_a_browser_is_told_what_to_do(tmp_path, monkeypatch):
    """Would catch a traceback in place of one line, and a folder begun for nothing."""
    monkeypatch.setenv("CHROME", "no-such-browser")
    with pytest.raises(BookError, match=r"no Chromium to print with, looked for no-such-browser: .* CHROME"):
        pdf(Book(tmp_path))
    assert list(tmp_path.iterdir()) == []
