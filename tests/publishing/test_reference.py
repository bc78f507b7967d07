"""The reference: every public name once, with its signature, its source and the chapters that use it."""

import importlib
import inspect
import re

import pytest
import yaml

from publishing import notebooks
from publishing.book import ROOT, Book, BookError
from publishing.merge import assemble
from publishing.reference import pages
from publishing.uses import used_names

MODULE = '''"""Counting, by hand. See https://example.org/paper."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Count(NamedTuple):
    """What ``count`` found."""

    n: int
    share: float = 0.0

    @property
    def percent(self) -> float:
        """The share in words."""
        return 100 * self.share


def count(words: Float[Tensor, "B"], *, unless: str | None = None, a_long_name_for_it: tuple[int, ...] = ()) -> Count:
    """Count the words, the ones called ``unless`` left out.

    Args:
        words: one row each.
        unless: a word.

    Raises:
        ValueError: there are none.
    """
    raise ValueError(words)


def hidden():
    """Exported by nobody, used by nobody."""


def reached():
    """Exported by nobody, and used by a chapter."""
'''  # fmt: skip


@pytest.fixture
def library(book, author):
    """The small book with a package `words`, whose function one chapter uses, and its pages in the contents."""
    folder = book.root / "lib/llmbook/words"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Words."""\n\nfrom llmbook.words.counting import Count, count\n\n'
                                        '__all__ = ["Count", "count"]\n')  # fmt: skip
    (folder / "counting.py").write_text(MODULE)
    (book.root / "lib/llmbook/signs.py").write_text('"""Signs."""\n\n\ndef sign():\n    """A sign."""\n')
    path = book.root / "chapters/two/attention.ipynb"
    author.edit(path, "c3", source="from llmbook.words import count as c\nfrom llmbook.words.counting import reached")
    toc = yaml.safe_load((book.root / "_toc.yml").read_text())
    toc["parts"][0]["chapters"] += [{"file": f"reference/{name}"} for name in ("index", "words", "signs")]
    (book.root / "_toc.yml").write_text(yaml.safe_dump(toc))
    return Book(book.root)


def entry(page, heading):
    """The part of a page below one heading."""
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", page, re.M | re.S)
    assert found, f"no entry {heading!r}"
    return found[1]


def test_an_entry_says_how_what_where_and_by_whom(library):
    """Would catch a signature that lost an axis, a star or a default, a link to other lines, and a wrong chapter."""
    text = entry(pages(library)["reference/words"], "count")
    assert text.split("```")[1] == (
        'python\ncount(\n    words: Float[Tensor, "B"],\n    *,\n    unless: str | None = None,\n'
        "    a_long_name_for_it: tuple[int, ...] = (),\n) -> Count\n"
    )
    assert "- `unless`: a word." in text
    assert "- `ValueError`: there are none." in text
    first, last = map(int, re.search(r"/blob/main/lib/llmbook/words/counting\.py#L(\d+)-L(\d+)\)", text).groups())
    lines = MODULE.splitlines()[first - 1 : last]
    assert lines[0].startswith("def count(")
    assert lines[-1] == "    raise ValueError(words)"
    assert text.rstrip().endswith("· used in [Two](../chapters/two/attention.ipynb)")


def test_a_class_shows_its_fields_and_properties(library):
    """Would catch a named tuple without its fields, and a property shown as a method."""
    text = entry(pages(library)["reference/words"], "class Count")
    assert "```python\nCount(n: int, share: float = 0.0)\n```" in text
    assert "percent -> float" in text
    assert "[`count`](words.md#count)" in text
    assert "used in" not in text


def test_public_is_what_is_exported_or_used(library):
    """Would catch a name a chapter imports without an entry, and every helper of a module with one."""
    page = pages(library)["reference/words"]
    assert re.findall(r"(?m)^### (.*)$", page) == ["class Count", "count", "reached"]
    assert re.findall(r"(?m)^## (.*)$", page) == ["counting"]
    assert "# llmbook.\u200bsigns\n\nSigns.\n\n## sign\n" in pages(library)["reference/signs"]


def test_contents_and_library_agree(library):
    """Would catch a new package that is in no reference, and a page of one that is gone."""
    toc = (library.root / "_toc.yml").read_text()
    (library.root / "_toc.yml").write_text(toc.replace("reference/signs", "reference/tunes"))
    with pytest.raises(BookError, match=r"does not list reference/signs"):
        pages(Book(library.root))
    (library.root / "_toc.yml").write_text(toc.replace("reference/signs", "reference/signs\n  - file: reference/tunes"))
    with pytest.raises(BookError, match=r"lists reference/tunes, and the library has no such package"):
        pages(Book(library.root))


def test_only_the_page_of_a_change_is_written(library):
    """Would catch pages that differ from build to build, so that Sphinx renders all of them each time."""
    source = assemble(library, {})
    before = {path: path.stat().st_mtime_ns for path in (source / "reference").iterdir()}
    (library.root / "lib/llmbook/signs.py").write_text('"""Signs."""\n\n\ndef sign():\n    """Another word."""\n')
    assemble(library, {})
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"signs.md"}


def test_names_reached_through_a_module_are_used(library, author):
    """Would catch a miss of `figures.bars(…)` after `from llmbook import figures`, or a stop at magics."""
    path = library.root / "chapters/two/attention.ipynb"
    author.edit(path, "c3", source="%%time\nnot python")
    author.edit(path, "c6", source="from llmbook import words\nimport llmbook.words as w\nwords.count\nw.Count.n")
    names = used_names(Book(library.root))[path]
    assert {"llmbook.words.count", "llmbook.words.Count"} <= set(names)


def test_every_name_the_book_uses_has_its_entry():
    """Would catch a chapter whose reader looks up a name and finds nothing, or finds no way back to the chapter."""
    book = Book(ROOT)
    text = "\n".join(pages(book).values())
    entries = {heading.removeprefix("class ") for heading in re.findall(r"(?m)^##+ (.*)$", text)}
    lost = set()
    for path, names in used_names(book).items():
        assert f"[{notebooks.title(notebooks.read(path))}](../{book.name(path)})" in text, path
        for owner, last in (name.rsplit(".", 1) for name in names if "." in name):
            if owner.rsplit(".", 1)[-1].islower():  # not what belongs to a class
                thing = getattr(importlib.import_module(owner), last, None) or importlib.import_module(
                    f"{owner}.{last}"
                )
                lost |= {f"{owner}.{last}"} if not inspect.ismodule(thing) and last not in entries else set()
    assert lost == set()
    assert len(entries) > 250


def test_every_exported_name_has_its_entry():
    """Would catch a function lost behind the module of its own name, as `llmbook.inference.generate` is."""
    made = pages(Book(ROOT))
    for name in ("inference", "interpret", "model", "training"):
        package = importlib.import_module(f"llmbook.{name}")
        headings = re.findall(r"(?m)^### (?:class )?(.*)$", made[f"reference/{name}"])
        assert set(package.__all__) - set(headings) == set()
        assert len(headings) == len(set(headings))


def test_a_file_in_the_way_of_a_page_is_refused(library):
    """Would catch an author's page that the build overwrites in silence."""
    (library.root / "reference").mkdir()
    (library.root / "reference/words.md").write_text("# Mine\n")
    with pytest.raises(BookError, match=r"reference/words\.md is in the way of the page that the build writes"):
        _ = library.pages
