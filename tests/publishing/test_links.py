"""Links to other sites: what is dead is named, and nothing is claimed where nothing was asked."""

import json

import pytest

from publishing import links
from publishing.book import BookError
from publishing.links import check_links, judge


def line(status, uri="https://example.org/paper", info=""):
    return json.dumps({"filename": "a.md", "lineno": 3, "status": status, "code": 0, "uri": uri, "info": info})


def test_a_dead_link_is_named_with_its_place():
    """Would catch a report that nobody reads, and a page whose author cannot find the link."""
    report = "\n".join(
        [line("working"), line("broken", "https://example.org/gone", "404 Client Error"), line("ignored")]
    )
    with pytest.raises(BookError, match=r"a\.md:3: https://example\.org/gone \(404 Client Error\)\n1 dead links"):
        judge(report)


def test_only_what_was_asked_is_counted():
    """Would catch links that were left out, such as those in the repository itself, being called working."""
    report = "\n".join([line("working"), line("redirected"), line("ignored"), line("unchecked"), line("local")])
    assert judge(report) == "2 links to other sites work."


def test_without_a_network_it_says_so(book, monkeypatch):
    """Would catch a machine without a network calling every link dead, or every link fine."""
    monkeypatch.setattr(links, "_reachable", lambda host: False)
    assert check_links(book).startswith("github.com does not answer, so links to other sites were not checked.")
