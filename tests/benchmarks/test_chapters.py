"""The longer book of the benchmark is a book: its contents, its links, its history; and its table is read aright."""

import json
import subprocess

import pytest
import yaml

from benchmarks import chapters


@pytest.fixture
def book(tmp_path):
    """Two chapters in one part, the first with a link to the second, and a home page that computes."""
    for name, text in {
        "one": "[two](two.ipynb) [far](../b/three.ipynb) [web](https://x.org/y.ipynb)",
        "two": "-",
    }.items():
        path = tmp_path / f"chapters/a/{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cells": [{"source": text}]}))
    (tmp_path / "index.ipynb").write_text("{}")
    files = [{"file": "chapters/a/one"}, {"file": "chapters/a/two"}, {"file": "glossary"}]
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump({"root": "index", "parts": [{"chapters": files}]}))
    return tmp_path


def test_copies_are_listed_and_their_links_lead_on(book):
    """Would catch a copy that is not part of the book, one too many, and a link to a sibling that has no copy."""
    chapters.multiply(book, 6)
    toc = yaml.safe_load((book / "_toc.yml").read_text())
    names = [entry["file"] for entry in toc["parts"][-1]["chapters"]]
    assert names == ["chapters/a-2/one", "chapters/a-2/two", "chapters/a-3/one"]
    (cell,) = json.loads((book / "chapters/a-3/one.ipynb").read_text())["cells"]
    assert cell["source"] == "[two](../a/two.ipynb) [far](../b/three.ipynb) [web](https://x.org/y.ipynb)"


def test_a_length_below_todays(book):
    """Would catch a benchmark of another length than was asked."""
    with pytest.raises(ValueError, match="--count 2: the book has 3 notebooks already"):
        chapters.multiply(book, 2)


def test_the_last_commit_changes_nothing(book):
    """Would catch a history after which every chapter counts as changed."""
    chapters.commit(book)
    changed = subprocess.run(
        ["git", "diff", "--stat", "HEAD^", "HEAD"], cwd=book, capture_output=True, text=True, check=True
    )
    assert changed.stdout == ""


def test_the_table_is_read_and_continued(book, capsys):
    """Would catch stages that are lost for a bracket in their name, a failure that is, and a wrong straight line."""
    said = (
        "stage seconds\nmake test                         100\nmake test-colab (beside)           40  FAILED\nnothing 3"
    )
    code, table = chapters.timed(book, f"echo '{said}'; exit 3")
    assert (code, table) == (3, {"make test": 100, "make test-colab (beside)": 40})
    lines = chapters.report({13: table, 26: {"make test": 160, "make test-colab (beside)": 40}}, 60)
    assert lines[0].split() == ["stage", "13", "26", "→", "60"]
    assert lines[1].split()[-3:] == ["100", "160", "317"]
    assert lines[2].split()[-1] == "40"
