"""The page of one's own predictions lists what the chapters ask."""

import json
import re

import nbformat
import pytest

from llmbook.figures import bars, predict
from publishing import notebooks, predictions
from publishing.merge import assemble

PAGE = '# My predictions\n\nThey are here.\n\n<div class="llm-ledger"></div>\n'


@pytest.fixture
def asked(book, tmp_path):
    """The small book with such a page, and one chapter that was run and asks twice, once with a marked-up question."""
    toc = (book.root / "_toc.yml").read_text()
    (book.root / "_toc.yml").write_text(toc + "- chapters:\n  - file: mine\n")
    (book.root / "mine.md").write_text(PAGE)
    source = book.root / "chapters/one/attention.ipynb"
    executed = notebooks.read(source)
    figure = bars({"a": 1, "b": 2}, alt="two bars")
    made = [predict(text, figure, options=["a", "b"], answer="b") for text in ("Is 1 < 2, </script>?", "And then?")]
    cell = notebooks.code_cells(executed)[-1]
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": one.to_html()}) for one in made]
    path = tmp_path / "executed.ipynb"
    notebooks.write(path, executed)
    return book, {source: path}, made


def test_every_question_is_listed_with_its_place(asked):
    """Catches a list that loses a question, links to nowhere, or breaks where a question looks like markup."""
    book, executed, made = asked
    text = (assemble(book, executed) / "mine.md").read_text()
    assert re.findall(r'href="([^"]+#[^"]+)"', text) == [
        f"chapters/one/attention.html#predict-{one.question.id}" for one in made
    ]
    specs = json.loads(re.search(r'class="llm-specs">(.*?)</script>', text, re.S)[1])
    assert specs == [one.question.spec() for one in made]
    block = text[text.index('<div class="llm-ledger">') :].strip()
    assert "\n\n" not in block  # would end the block in Markdown
    assert "Is 1 &lt; 2, &lt;/script&gt;?" in block


def test_a_chapter_that_was_not_run_is_left_out(asked):
    """Catches a list of questions whose answers nobody has measured, and a page without a list that is changed."""
    book, _, _ = asked
    text = (assemble(book, {}) / "mine.md").read_text()
    assert "<li" not in text
    assert (book.build / "src" / "index.md").read_text() == (book.root / "index.md").read_text()
    assert predictions.fill("# Nothing to fill\n", book, {}) == "# Nothing to fill\n"
