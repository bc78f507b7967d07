"""Every notebook begins in Colab with what its set-up cell installs, which changes nothing that was there.

A chapter's whole experiment takes up to 40 s, so not all of them run here again. Set-up, imports, parameters: of every
notebook, alone in an empty folder. Everything that is imported later, inside functions too: of every notebook. Every
file of the package: compared by name. The whole: of one chapter, chosen for what it touches (or COLAB_CHAPTERS=all).
What remains, a file read by its place in the repository, fails in the book's own build, which runs every notebook in
an empty folder as well.
"""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from packaging.requirements import Requirement

from publishing import beside, notebooks
from publishing.book import ROOT, Book
from publishing.setup_cell import setup_source

from .conftest import HERE

BOOK = Book(ROOT)
WHOLE = "5-practice/pretraining"  # a corpus fetched, training, sliders, every kind of figure, a page written
NAMES = [BOOK.name(path) for path in BOOK.notebooks]


def asked() -> list[str]:
    wanted = os.environ.get("COLAB_CHAPTERS") or WHOLE
    return NAMES if wanted == "all" else [BOOK.name(BOOK.find(name)) for name in wanted.split(",")]


def made_up(*sources: str, setup: bool = True) -> nbformat.NotebookNode:
    """A notebook with the book's set-up cell and these."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    if setup:
        cells.insert(
            0, nbformat.v4.new_code_cell(setup_source(BOOK.address[0], BOOK.ref), metadata={"tags": ["setup"]})
        )
    return nbformat.v4.new_notebook(cells=cells)


def needed() -> dict[str, Requirement]:
    import tomllib

    project = tomllib.loads((ROOT / "lib/pyproject.toml").read_text())["project"]
    return {requirement.name.lower(): requirement for requirement in map(Requirement, project["dependencies"])}


def test_our_bounds_admit_what_is_there():
    """A lower bound above a version that Colab has: pip would replace it, and the reader's session would break."""
    there = {Requirement(pin).name.lower(): pin.split("==")[1] for pin in beside.pins(HERE / "requirements.txt")}
    both = needed().keys() & there.keys()
    assert {"numpy", "plotly", "ipywidgets", "tokenizers", "safetensors", "tqdm"} <= both
    refused = [f"{needed()[name]} but {there[name]}" for name in both if there[name] not in needed()[name].specifier]
    assert refused == []


def test_no_package_has_an_upper_bound():
    """A pin that is right today and takes a reader's newer torch away next year."""
    operators = {specifier.operator for requirement in needed().values() for specifier in requirement.specifier}
    assert operators == {">="}


def test_the_set_up_cell_adds_and_changes_nothing(installed):
    """An upgraded numpy under a running kernel, a dependency that pins something of Colab's."""
    before, after = installed["before"], installed["after"]
    assert "llmbook" not in before
    assert "torch" in before  # and its link is in the way of nobody
    assert {name: (before[name], after.get(name)) for name in before if after.get(name) != before[name]} == {}
    added = after.keys() - before.keys()
    assert "llmbook" in added
    assert added <= {"llmbook", "jaxtyping", "wadler-lindig"}, "the set-up cell brings more than it used to"
    assert installed["against before"] == set(), "pip would mend this too, and blame would fall on the book"
    assert installed["against after"] == set()


def test_every_file_of_the_package_arrives(installed, service, repository):
    """A results file, a style or a script that package-data forgets: found in a clone, missing in Colab."""
    assert missing(service, repository) == []


def missing(service, repository: Path) -> list[str]:
    cell = "from importlib.metadata import files\nprint(*sorted(str(f) for f in files('llmbook')), sep='\\n')"
    *_, listed, _ = service.run(made_up(cell))
    there = set(listed.outputs[0].text.split())
    ours = (path.relative_to(repository / "lib").as_posix() for path in (repository / "lib/llmbook").rglob("*"))
    return sorted(name for name in ours if (repository / "lib" / name).is_file() and name not in there)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins(name, service, installed):
    """An import of what only the book's own environment has, a name the installed library does not export."""
    cells = service.run(ROOT / name, only=service.is_opening)
    assert service.is_setup(cells[0])
    assert all(cell.execution_count for cell in cells)
    assert not BOOK.is_chapter(ROOT / name) or len(cells) >= 4  # set-up, imports, parameters, what comes later


@pytest.mark.parametrize("name", asked())
def test_a_whole_notebook(name, service, installed):
    """Sliders of ipywidgets 8, a figure of plotly 7, a corpus that Colab's pip cannot fetch: what only runs here."""
    cells = service.run(ROOT / name)
    codes = notebooks.code_cells(nbformat.read(ROOT / name, as_version=4))
    assert [cell.source for cell in cells[:-1]] == [cell.source for cell in codes]
    for cell, ours in zip(cells, codes, strict=False):
        if notebooks.CHECKED in notebooks.tags(ours):
            assert notebooks.checked_outputs(cell) == notebooks.checked_outputs(ours), ours.id


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("import transformers", "No module named 'transformers'"),
        ("def later():\n    from llmbook.text import no_such_name", "cannot import name 'no_such_name'"),
        ("import publishing", "No module named 'publishing'"),
        ("open('../../_config.yml')", "No such file"),
        ("open('lib/pyproject.toml')", "No such file"),
    ],
)
def test_the_proof_itself(cell, error, service, installed):
    """A service that leaks the book's environment or folder, and lets every notebook pass."""
    with pytest.raises(CellExecutionError, match=error):
        service.run(made_up(cell))


def test_a_forgotten_datum_is_missed(installed, service, repository):
    """A comparison of files that finds nothing missing because it compares nothing."""
    extra = repository / "lib/llmbook/results/forgotten.csv"
    extra.write_text("1\n")
    assert missing(service, repository) == ["llmbook/results/forgotten.csv"]
    extra.unlink()
