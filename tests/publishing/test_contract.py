"""Every promise of the contract is checked: break one, and the message names it."""

import json

import nbformat
import pytest

from publishing import notebooks
from publishing.contract import problems
from publishing.tidy import check, tidy

LONG = "\n".join(f"x{k} = {k}" for k in range(26))
CHECKED = "nbval-check-output"
GPU_LINE = "*Quick: 5 s, 1 GB. Full, on a GPU: T4 9 min, 4 GB; A100 3 min, 4 GB (estimated).*"


def chapter(book):
    return book.root / "chapters/one/attention.ipynb"


def test_a_good_chapter_has_no_problems(book):
    """Would catch a check that rejects what the contract allows."""
    assert check(book) == []


BREAKS = [
    ("c0", {"source": "No title here, and it goes on."}, "first cell must be the title"),
    ("c1", {"source": "Takes a while."}, "no line with time and memory"),
    ("c2", {"source": 'scale = "full"'}, "tagged `parameters`"),
    ("setup", {"source": "import llmbook"}, "set-up cell differs"),
    ("c6", {"source": "scale = choose_scale(scale)\nassert scale"}, "cell 8 (id c6) sets the scale and is not folded"),
    ("c3", {"source": LONG}, "has 26 lines; the limit is 25"),
    ("c3", {"source": "value = " + "1 + " * 30 + "12"}, "has a line of 130 characters; the page shows 96"),
    ("c5", {"outputs": []}, "output is missing: run `make refresh"),
    ("c5", {"execution_count": None}, "no execution count, so it is not compared"),
    ("c6", {"source": "value == 42"}, "no `assert`"),
    ("c6", {"source": "assert value == 42"}, "asks for no prediction"),
    ("c6", {"execution_count": 3}, "carries an output"),
    ("c4", {"source": "See ![](picture.svg)"}, "image without alternative text"),
    ("c4", {"source": '<img src="picture.svg">'}, "image without alternative text"),
    ("c4", {"source": "## What √d_k is for"}, "a formula in a heading"),
    ("c4", {"source": "### To $10^6$"}, "a formula in a heading"),
    ("c6", {"source": "assert open('/home/me/data.txt')"}, "names a path of one machine"),
    ("c7", {"source": "Nothing to do"}, "2 exercises"),
    ("c9", {"metadata": {}}, "exercise 1 has no solution"),
    ("c9", {"source": "answer = 1"}, "exercise 1 is not checked: its folded solution ends in"),
    (
        "c5",
        {"outputs": [nbformat.v4.new_output("stream", text="falls: True\n")]},
        "prints a bare verdict, 'falls: True'",
    ),
    ("c3", {"source": "torch.manual_seed(0)\nvalue = 42"}, "no text says from how many seeds"),
    ("c4", {"metadata": {"editable": True}}, "not in its normal form: run `make tidy`"),
    ("c3", {"source": "runtime = choose_runtime()"}, "`choose_runtime()` in the code go together"),
    ("c3", {"source": "scale = choose_scale(scale, gpu=True)"}, "whose parameters are tagged `gpu`, and in no other"),
    ("c1", {"source": GPU_LINE}, "names T4 and A100 in a chapter tagged `gpu`, and in no other"),
]


@pytest.mark.parametrize(("cell", "change", "message"), BREAKS)
def test_broken_promise(book, author, cell, change, message):
    """Would catch a promise that is written in the contract and checked nowhere."""
    if "metadata" in change:
        change = {"metadata": nbformat.from_dict(change["metadata"])}
    author.edit(chapter(book), cell, **change)
    found = problems(book, chapter(book))
    assert any(message in problem for problem in found), found
    assert all(problem.startswith("chapters/one/attention.ipynb: ") for problem in found)


def on_gpu(book, author, line: str = GPU_LINE) -> list[str]:
    """What is wrong with a chapter that computes on a GPU and begins with this line."""
    path = chapter(book)
    author.edit(path, "c1", source=line)
    author.edit(path, "c2", metadata=nbformat.from_dict({"tags": ["gpu", "parameters"]}))
    author.edit(path, "c3", source="scale = choose_scale(scale, gpu=True)\nruntime = choose_runtime()\nvalue = 42")
    tidy(book, [path])
    return problems(book, path)


def test_a_chapter_on_a_gpu(book, author):
    """Would catch a promise to readers with a T4 that is missing, or longer than they have."""
    assert on_gpu(book, author) == []
    (missing,) = on_gpu(book, author, "*Quick: 5 s, 1 GB. Full: 3 min, 4 GB, one GPU.*")
    assert "names T4 and A100" in missing
    (long,) = on_gpu(book, author, GPU_LINE.replace("T4 9 min", "T4 19 min"))
    assert "takes 19 min and 4 GB on a T4; the limits are 15 min and 12 GB" in long
    (large,) = on_gpu(book, author, GPU_LINE.replace("min, 4 GB; A100", "min, 14 GB; A100"))
    assert "takes 9 min and 14 GB on a T4" in large


def test_long_cells_on_average(book, author):
    """Would catch chapters that are walls of code, each just below the limit; folded cells are not counted."""
    nine = "\n".join(f"y{k} = {k}" for k in range(9))
    for tags, found in (["hide-input"], 0), ([], 1):
        many = [author.code(nine, *tags) for _ in range(9)]
        author.write(book, "chapters/one/attention.ipynb", author.cells("One") + many)
        assert len(problems(book, chapter(book))) == found
    assert "median of 9 lines" in problems(book, chapter(book))[0]


def test_home_page_needs_no_exercises(book, author):
    """Would catch the rules for chapters being applied to a notebook that is not one."""
    (book.root / "index.md").unlink()
    author.write(book, "index.ipynb", [author.md("# Home"), author.code("1 + 1")])
    assert problems(book, book.root / "index.ipynb") == []


def test_tidy_mends_what_needs_no_judgement(book):
    """Would catch outputs, counts and editor metadata reaching a commit; a second tidy changes nothing."""
    path = chapter(book)
    clean = path.read_bytes()
    raw = json.loads(clean)
    raw["metadata"]["widgets"] = {"state": {}}
    for cell in raw["cells"]:
        cell["metadata"]["ExecuteTime"] = 3
        if cell["cell_type"] == "code" and CHECKED not in cell["metadata"].get("tags", []):
            cell["execution_count"] = 7
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "noise"}]
    path.write_text(json.dumps(raw))
    assert tidy(book, book.notebooks) == ["chapters/one/attention.ipynb"]
    assert path.read_bytes() == clean
    assert tidy(book, book.notebooks) == []


def test_tidy_inserts_the_setup_cell_before_all_code(book):
    """Would catch a chapter whose imports come before the cell that installs them."""
    path = chapter(book)
    notebook = notebooks.read(path)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "setup"]
    notebooks.write(path, notebook)
    tidy(book, [path])
    codes = notebooks.code_cells(notebooks.read(path))
    assert [cell.id for cell in codes][:2] == ["setup", "c2"]
    assert problems(book, path) == []


def test_tidy_folds_what_prepares_with_the_set_up(book, author):
    """Would catch a page that opens with imports, and a figure or a lesson that is folded with them."""
    cells = author.cells("One")
    cells[3:3] = [
        author.code("import math\nfrom llmbook.notebook import choose_scale"),
        author.code("choose_scale(scale)"),
    ]
    author.write(book, "chapters/one/attention.ipynb", cells)
    codes = notebooks.code_cells(notebooks.read(chapter(book)))
    assert [cell.id for cell in codes if "opening" in notebooks.tags(cell)] == ["c2", "c3", "c4"]
    for cell in codes[:4]:
        assert "hide-input" in notebooks.tags(cell)
        assert cell.metadata["cellView"] == "form"
        assert cell.metadata["jupyter"]["source_hidden"]
    assert "hide-input" not in notebooks.tags(codes[4]), "this one computes"
    notebook = notebooks.read(chapter(book))
    notebook.cells.append(notebook.cells.pop(4))
    assert "hide-input" not in notebooks.tags(notebooks.normal(notebook).cells[-1]), "what moved away is shown again"


def test_missing_ids_are_the_same_on_every_machine(book):
    """Would catch random ids, which make every tidy a change."""
    notebook = notebooks.read(chapter(book))
    for cell in notebook.cells:
        cell.pop("id")
    first, second = (notebooks.text(notebooks.normal(notebook)) for _ in range(2))
    assert first == second
