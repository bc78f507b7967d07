"""What an execution depends on, counted on a copy of the real book: change one thing, and see which chapters run."""

import shutil
from pathlib import Path

import pytest

from publishing import notebooks
from publishing.book import ROOT, Book
from publishing.execute import Work
from publishing.pins import versions

PLACES = ("chapters", "lib/llmbook", "index.ipynb", "_toc.yml", "_config.yml", "requirements.txt")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    root = tmp_path_factory.mktemp("copy")
    for name in PLACES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, root / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, root / name)
    for page in ROOT.glob("*.md"):
        shutil.copy(page, root / page.name)
    return Book(root)


@pytest.fixture(scope="module")
def before(copied):
    return keys(copied)


def keys(book):
    return {book.name(path): Work(book, path, {}).key for path in book.notebooks}


@pytest.fixture
def changed(copied, before, request):
    """A function that edits one file and tells which notebooks would run again; the file is restored afterwards."""

    def change(name, edit):
        path = copied.root / name
        content = path.read_bytes()
        request.addfinalizer(lambda: path.write_bytes(content))
        path.write_bytes(edit(content.decode()).encode() if path.suffix != ".bin" else content + b"!")
        assert path.read_bytes() != content
        after = keys(copied)
        path.write_bytes(content)
        short = {name.removeprefix("chapters/").removesuffix(".ipynb") for name in after if after[name] != before[name]}
        return short

    return change


def everything(before):
    return {name.removeprefix("chapters/").removesuffix(".ipynb") for name in before}


def append(code):
    return lambda text: text + code


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("lib/llmbook/model/attention.py", lambda text: text.replace('"""', '"""Said otherwise. ', 1)),
        ("lib/llmbook/model/attention.py", append("# a remark\n")),
        ("lib/llmbook/model/attention.py", lambda text: "# a line above everything\n" + text),
        ("lib/llmbook/retrieval/bm25.py", append("SURPRISE = 1\n")),
        ("lib/llmbook/inference/server/app.py", append("SURPRISE = 1\n")),
        ("lib/llmbook/published/README.md", append("Words.\n")),
        ("requirements.txt", lambda text: text.replace("Sphinx==", "Sphinx==9")),
        ("requirements.txt", lambda text: text.replace("ruff==", "ruff==9")),
    ],
    ids=["docstring", "comment", "lines moved", "unused module", "server", "readme", "docs tool", "linter"],
)
def test_what_no_chapter_uses_runs_nothing(changed, name, edit):
    """Would catch a morning of executions for a docstring, a linter's version or a module beside the chapters."""
    assert changed(name, edit) == set()


@pytest.mark.parametrize(
    ("name", "edit", "runs"),
    [
        ("lib/llmbook/compression/quantise.py", append("SURPRISE = 1\n"), {"2-concepts/efficiency"}),
        ("lib/llmbook/results/positions.json", append(" "), {"2-concepts/positions"}),
        ("lib/llmbook/text/tokenizers/merges.py", append("SURPRISE = 1\n"), None),
    ],
    ids=["module", "recorded run", "tokenizer"],
)
def test_a_change_runs_what_reaches_it(changed, before, name, edit, runs):
    """Would catch a stale page beside a changed library, and one chapter's data making all the others run."""
    found = changed(name, edit)
    assert found == runs if runs else "2-concepts/tokens" in found and found < everything(before)


def test_attention_is_reached_by_every_chapter_that_computes_with_a_model(changed, before):
    """Would catch a change in the heart of the library that leaves a chapter with its old outputs."""
    found = changed("lib/llmbook/model/attention.py", append("SURPRISE = 1\n"))
    users = {
        name.removeprefix("chapters/").removesuffix(".ipynb")
        for name in before
        if "llmbook.model" in (ROOT / name).read_text() or "load_pretrained" in (ROOT / name).read_text()
    }
    assert users <= found
    assert len(found) >= 12


def test_a_checkpoint_runs_the_chapters_that_name_it(changed):
    """Would catch a retrained model whose old sentences stay on the page."""
    found = changed("lib/llmbook/published/shakespeare-chars.bin", None)
    assert {"2-concepts/efficiency", "1-background/history"} <= found
    assert "1-background/scale" not in found


def test_torch_runs_everything(changed, before):
    """Would catch outputs of one torch under the version number of another."""
    assert changed("requirements.txt", lambda text: text.replace("torch==", "torch==9")) == everything(before)


def test_shown_source_counts_as_text(changed):
    """Would catch a page that shows a function as it was before its comments and its docstring were rewritten."""
    shown = "def eager_attention"
    edit = lambda text: text.replace(shown, f"# by hand\n{shown}")  # noqa: E731
    assert changed("lib/llmbook/model/attention.py", edit) == set()  # a comment above it is not shown
    inside = lambda text: text.replace("softmax(", "softmax(  # over the keys\n", 1)  # noqa: E731
    assert "2-concepts/attention" in changed("lib/llmbook/model/attention.py", inside)


def test_the_pins_that_count_are_those_of_what_is_imported():
    """Would catch a closure that ends at the first package, or takes all there is."""
    pins = {line.split("==")[0] for line in versions(ROOT / "requirements.txt", {"torch", "plotly"})}
    assert {"torch", "plotly", "sympy", "narwhals", "ipykernel", "papermill"} <= pins
    assert not {"Sphinx", "jupyter-book", "ruff", "pytest", "transformers"} & pins


def test_the_words_of_a_cell_and_its_layout_run_nothing(book, author):
    """Would catch an hour of training for a comment in a cell; a semicolon, which hides a value, counts."""
    path = book.notebooks[0]
    first = Work(book, path, {}).key
    author.edit(path, "c3", source="import llmbook  # ours\n\nvalue = (21 *\n         llmbook.FACTOR)")
    assert Work(book, path, {}).key == first
    author.edit(path, "c3", source="import llmbook\n\nvalue = 21 * llmbook.FACTOR;")
    assert Work(book, path, {}).key != first


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ('open(Path(__file__).parent / "data" / "one.txt")', {"data/one.txt"}),
        ('open(Path(__file__).parent / "data" / name)', {"data/one.txt", "data/two.txt"}),
        ("open(Path(__file__).parent / name)", {"named.json"}),
    ],
    ids=["a file", "a folder", "by name"],
)
def test_files_that_the_library_reads(book, author, line, counts):
    """Would catch a changed asset or recorded run that is shown by nobody's new execution."""
    library = book.root / "lib/llmbook"
    (library / "__init__.py").write_text(
        f"from pathlib import Path\nFACTOR = 2\ndef read(name):\n    {line!r}\n{line}\n"
    )
    (library / "data").mkdir()
    for name in ("data/one.txt", "data/two.txt", "named.json", "other.json"):
        (library / name).write_text("1")
    path = book.notebooks[0]
    author.edit(path, "c3", source='import llmbook\n\nllmbook.read("named")\nvalue = 21 * llmbook.FACTOR')
    found = {name.removeprefix("file lib/llmbook/") for name in Work(book, path, {}).inputs if name.startswith("file ")}
    assert found == counts


def test_code_that_reads_code_depends_on_its_text(book, author):
    """Would catch a chapter that prints a docstring of the library and keeps the old one."""
    path, library = book.notebooks[0], book.root / "lib/llmbook/__init__.py"
    author.edit(path, "c3", source="import llmbook\n\nprint(llmbook.__doc__)\nvalue = 21 * llmbook.FACTOR")
    first = Work(book, path, {}).key
    library.write_text('"""Said."""\n' + Path(library).read_text())
    assert Work(book, path, {}).key != first


def test_a_cell_that_is_no_python_depends_on_everything(book, author):
    """Would catch a key that ignores a cell it could not read."""
    path = book.notebooks[0]
    (book.root / "lib/llmbook/beside.py").write_text("X = 1\n")
    assert "module llmbook.beside" not in Work(book, path, {}).inputs
    author.edit(path, "c6", source="this is no python")
    assert "module llmbook.beside" in Work(book, path, {}).inputs
    assert notebooks.read(path).cells


def test_a_chapter_depends_on_its_own_exercises(changed):
    """Would catch answers of one chapter that make every other run again, or not even its own."""
    assert changed("lib/llmbook/exercises/part3_algorithms/reach.py", append("SURPRISE = 1\n")) == {
        "3-algorithms/reach"
    }
