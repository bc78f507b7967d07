"""A tiny book, made anew for every test: two chapters with the same name in two parts, and a home page."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml

from publishing import notebooks
from publishing.book import Book
from publishing.setup_cell import setup_source

URL, BRANCH = "https://github.com/someone/book", "main"


def md(source: str):
    return nbformat.v4.new_markdown_cell(source)


def code(source: str, *tags: str):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def chapter_cells(title: str) -> list:
    """The cells of a chapter that keeps the contract, without its set-up cell."""
    exercises = []
    for number, kind in enumerate(("check", "vary", "build"), 1):
        asked = f'check("{title.lower()}/attention", {number}'
        exercises += [
            md(f"## Exercise {number}: {kind}\n\nDo it."),
            code(f"check = lambda *_: True  # stands for the book's\n{asked}, ...)"),
        ]
        exercises += [code(f"answer = {number}\nassert {asked}, answer)", "hide-cell")]
    return [
        md(f"# {title}\n\nWhat does it answer? One sentence with a question, and another one behind it."),
        md("*Quick: 5 s, 100 MB, 2 CPU cores. Full: 1 min, 1 GB, one GPU.*"),
        code('scale = "auto"', "parameters"),
        code("import llmbook\n\nvalue = 21 * llmbook.FACTOR"),
        md("The value is forty-two."),
        code("print(value)", "nbval-check-output"),
        code("predict = dict  # stands for the book's\nasked = predict(answer=value)\nassert value == 42"),
        *exercises,
    ]


def write_notebook(book: Book, name: str, cells: list) -> Path:
    """Write `cells` as a tidy notebook; cells tagged as checked get the output 42."""
    notebook = nbformat.v4.new_notebook(cells=cells)
    for cell in notebooks.code_cells(notebook):
        if notebooks.CHECKED in notebooks.tags(cell):
            cell.outputs = [nbformat.v4.new_output("stream", text="42\n")]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"c{number}"
    path = book.root / name
    notebooks.write(path, notebooks.normal(notebook, setup_source(URL, BRANCH)))
    return path


@pytest.fixture(autouse=True)
def _own_records(tmp_path, monkeypatch):
    """No test takes a record of the user's, or leaves one among them."""
    monkeypatch.setenv("LLMBOOK_RECORDS", str(tmp_path / "records"))
    monkeypatch.delenv("LLMBOOK_FRESH", raising=False)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A complete small checkout."""
    return make_book(tmp_path / "checkout")


@pytest.fixture(scope="session")
def small_book():
    """The function that writes a complete small checkout at a path."""
    return make_book


def make_book(root: Path) -> Book:
    """Write the small book at `root`."""
    library = root / "lib" / "llmbook"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("FACTOR = 2\n")
    (root / "requirements.txt").write_text("torch==2.13.0\n")
    (root / "lib" / "pyproject.toml").write_text('[project]\nname = "llmbook"\nversion = "0.1.0.dev0"\n')
    config = {
        "title": "A small book",
        "only_build_toc_files": True,
        "execute": {"execute_notebooks": "off"},
        "repository": {"url": URL, "branch": BRANCH, "path_to_book": ""},
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
        "parse": {"myst_enable_extensions": ["amsmath", "dollarmath"]},
        "html": {"use_edit_page_button": True},
        "sphinx": {"recursive_update": True, "extra_extensions": ["publishing.sphinx_ext"]},
    }
    (root / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    chapters = [{"file": "chapters/one/attention"}, {"file": "chapters/two/attention"}]
    toc = {"format": "jb-book", "root": "index", "parts": [{"caption": "All", "chapters": chapters}]}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    matrix = r"$$ \begin{pmatrix} 0 & 1 \\ 1 & 0 \end{pmatrix} \tag{1} $$"
    home = f"# Home\n\nA small book that is built in a test and read by nobody at all.\n\n{matrix}\n"
    (root / "index.md").write_text(home)
    made = Book(root)
    write_notebook(made, "chapters/one/attention.ipynb", chapter_cells("One"))
    write_notebook(made, "chapters/two/attention.ipynb", chapter_cells("Two"))
    return made


@pytest.fixture
def author() -> SimpleNamespace:
    """What a test needs to write a chapter."""
    return SimpleNamespace(md=md, code=code, cells=chapter_cells, write=write_notebook, edit=edit)


def edit(path: Path, identifier: str, **changes: object) -> None:
    """Change one cell of a notebook: `edit(path, "c3", source="…")`."""
    notebook = notebooks.read(path)
    cell = next(cell for cell in notebook.cells if cell.id == identifier)
    for name, value in changes.items():
        setattr(cell, name, value)
    notebooks.write(path, notebook)
