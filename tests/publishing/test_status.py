"""The status page says what the runs behind the site took, and nothing that was not measured."""

import pytest
import yaml

from publishing import notebooks
from publishing.book import Book, BookError
from publishing.execute import execute, target
from publishing.merge import assemble
from publishing.status import page
from publishing.worker import NOTE

VERSIONS = {"Python": "3.11.7", "torch": "2.13.0"}


def pretend(book, seconds=(8.4, 125.0), memory=(300_000_000, 1_230_000_000), machines=("a laptop", "a laptop")):
    """Executed copies that nobody ran, with the metadata of a run."""
    executed = {}
    for source, took, most, machine in zip(book.notebooks, seconds, memory, machines, strict=True):
        notebook = notebooks.read(source)
        cells = {cell.id: cell for cell in notebook.cells}
        cells["c2"].outputs = notebooks.checked_outputs(cells["c5"])
        cells["c2"].outputs[0].text = "scale: quick (no CUDA device found)\n"
        notebook.metadata["papermill"] = {"duration": took, "end_time": "2026-11-22T07:02:29.251054+00:00"}
        notebook.metadata[NOTE] = {"memory": most, "machine": machine, "versions": VERSIONS}
        executed[source] = target(book, source, {})
        notebooks.write(executed[source], notebook)
    return executed


def rows(text):
    cells = [[c.strip() for c in line.strip("|\n ").split("|")] for line in text.splitlines() if line.startswith("|")]
    return cells[2:]


def test_a_row_says_what_the_run_took_and_checked(book):
    """Would catch a number in the wrong column, a wrong unit, and solutions whose assertions are not counted."""
    one, two, total = rows(page(book, pretend(book)))
    link = "[One](chapters/one/attention.ipynb)"
    assert one == [link, "8 s", "300 MB", "1 of 1", "1", "quick", "2026-11-22 07:02"]
    assert two[1:3] == ["2 min 5 s", "1.2 GB"]
    assert total[:5] == ["**All**", "2 min 13 s", "1.2 GB at most", "2 of 2", "2"]


def test_an_output_that_is_no_longer_printed_is_not_counted(book, author):
    """Would catch a page that praises checks which the run of this site did not pass."""
    executed = pretend(book)
    author.edit(executed[book.notebooks[0]], "c5", outputs=[])
    assert rows(page(book, executed))[0][3] == "0 of 1"


def test_a_chapter_that_was_not_run_says_so(book):
    """Would catch a made-up row, or a missing one, after `make book CHAPTER=…`."""
    executed = pretend(book)
    del executed[book.notebooks[0]]
    assert rows(page(book, executed))[0] == ["[One](chapters/one/attention.ipynb)", "not run", *"–––––"]


def test_one_sentence_where_all_agree_and_a_list_where_not(book):
    """Would catch the machine of one chapter being said of another."""
    alike = page(book, pretend(book))
    assert "All of them were run with Python 3.11.7, torch 2.13.0, on a laptop." in alike
    apart = page(book, pretend(book, machines=("a laptop", "a server")))
    assert "- [Two](chapters/two/attention.ipynb): run with Python 3.11.7, torch 2.13.0, on a server." in apart
    assert "All of them were" not in apart


def test_an_older_copy_says_nothing_it_does_not_know(book):
    """Would catch a build that falls over copies which were kept from before there was a record."""
    executed = pretend(book)
    for copy in executed.values():
        notebook = notebooks.read(copy)
        del notebook.metadata[NOTE], notebook.metadata["papermill"]
        notebooks.write(copy, notebook)
    assert rows(page(book, executed))[0][1:3] == ["–", "–"]


def listed(book):
    """The same book with the status page in its table of contents."""
    toc = yaml.safe_load((book.root / "_toc.yml").read_text())
    toc["parts"][0]["chapters"].append({"file": "status"})
    (book.root / "_toc.yml").write_text(yaml.safe_dump(toc))
    return Book(book.root)


def test_the_page_is_written_where_it_is_listed(book):
    """Would catch a table of contents that leads nowhere, and a page that no contents lead to."""
    assert not (assemble(book, pretend(book)) / "status.md").exists()
    book = listed(book)
    assert (assemble(book, pretend(book)) / "status.md").read_text() == page(book, pretend(book))


def test_a_file_of_that_name_is_refused(book):
    """Would catch an author's page that the build overwrites in silence."""
    (book.root / "status.md").write_text("# Mine\n")
    with pytest.raises(BookError, match=r"status\.md is in the way of the page that the build writes"):
        _ = listed(book).pages


def test_a_real_run_leaves_its_record(book, author):
    """Would catch memory of the wrong process or in the wrong unit: the cell holds 200 MB, the worker far less."""
    source = book.notebooks[0]
    author.edit(source, "c6", source="held = bytearray(200_000_000)\nassert value == 42")
    (run,) = execute(book, [source])
    noted = notebooks.read(run.executed).metadata[NOTE]
    assert 200e6 < noted["memory"] < 2e9
    assert set(noted["versions"]) == {"Python", "torch", "numpy", "plotly", "llmbook"}
    assert (noted["threads"], bool(noted["device"])) == ("1", True)
    assert rows(page(book, {source: run.executed}))[0][2].endswith("MB")
