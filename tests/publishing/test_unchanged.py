"""A test file that passed and can reach nothing that changed is not run again; all others are."""

import json
import subprocess
from pathlib import Path

import pytest

from publishing.book import ROOT, Book
from publishing.suite import _dotted, _passed
from publishing.unchanged import KnownTests

FILES = {
    "lib/llmbook/__init__.py": "",
    "lib/llmbook/model.py": "X = 1\n",
    "lib/llmbook/text.py": '"""Text."""\nfrom llmbook.model import X\n',
    "tests/conftest.py": "",
    "tests/helpers.py": "from llmbook.text import X\n",
    "tests/test_model.py": "from llmbook.model import X\n",
    "tests/test_text.py": "from tests.helpers import X\n",
    "tests/test_large.py": "import subprocess\n",
    "README.md": "Words\n",
    "requirements.txt": "torch==2.13.0\n",
    "pytest.ini": "[pytest]\n",
}
ALL = {"test_large", "test_model", "test_text"}


@pytest.fixture
def checkout(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("_build/\n")
    return Book(tmp_path)


def passed(checkout):
    tests = KnownTests(checkout)
    tests.keep(tests.files, tests.files)


def changed(checkout):
    return {path.stem for path in KnownTests(checkout).changed()}


def test_nothing_is_known_at_first_and_everything_after_a_pass(checkout):
    """Would catch tests skipped in a fresh clone, and a `make test` that repeats everything for nothing."""
    assert changed(checkout) == ALL
    passed(checkout)
    assert changed(checkout) == set()


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("lib/llmbook/text.py", {"test_text", "test_large"}),
        ("lib/llmbook/model.py", ALL),
        ("tests/helpers.py", {"test_text", "test_large"}),
        ("tests/test_model.py", {"test_model", "test_large"}),
        ("tests/conftest.py", ALL),
        ("README.md", {"test_large"}),
        ("requirements.txt", ALL),
        ("pytest.ini", ALL),
    ],
)
def test_a_change_repeats_what_can_reach_it(checkout, name, again):
    """Would catch a broken module whose tests are taken for passed: behind a helper, in a conftest, a docstring."""
    passed(checkout)
    path = checkout.root / name
    path.write_text(path.read_text().replace('"""Text."""', '"""Other."""') + "\n# changed\n")
    assert changed(checkout) == again


def test_a_new_file_counts_for_tests_that_may_see_it(checkout):
    """Would catch a test of the whole checkout that misses a file which git does not know yet."""
    passed(checkout)
    (checkout.root / "new.md").write_text("New\n")
    assert changed(checkout) == {"test_large"}


def test_the_environment_counts(checkout, monkeypatch):
    """Would catch tests that were skipped for want of data and are not run when it is there."""
    monkeypatch.delenv("LLMBOOK_DATA", raising=False)
    passed(checkout)
    monkeypatch.setenv("LLMBOOK_DATA", "/somewhere")
    assert changed(checkout) == ALL


def test_a_failure_is_repeated_and_forgets_the_pass_before(checkout):
    """Would catch a failing file that counts as passed because it once was."""
    passed(checkout)
    tests = KnownTests(checkout)
    tests.keep([], tests.files[:1])
    assert changed(checkout) == {"test_large"}


def test_an_edit_during_the_run_is_not_what_passed(checkout):
    """Would catch a module edited while its tests ran, taken for tested."""
    tests = KnownTests(checkout)
    assert {path.stem for path in tests.changed()} == ALL
    (checkout.root / "lib/llmbook/model.py").write_text("X = 2\n")
    tests.keep(tests.files, tests.files)
    assert changed(checkout) == ALL


def test_a_spoiled_memory_repeats_everything(checkout):
    """Would catch a crash, or a pass, because of half a file."""
    passed(checkout)
    place = checkout.build / "test" / "passed.json"
    for text in ("{", json.dumps([1])):
        place.write_text(text)
        assert changed(checkout) == ALL


def test_a_module_repeats_a_part_of_the_real_tests():
    """Would catch a reach so wide that every edit repeats everything, or so narrow that the module's own are missed."""
    tests = KnownTests(Book(ROOT))
    reached = {
        name: "module llmbook.inference.beam" in tests.inputs(ROOT / "tests" / name)
        for name in ("inference/test_beam.py", "text/test_bpe.py", "model/test_attention.py")
    }
    assert reached == {"inference/test_beam.py": True, "text/test_bpe.py": False, "model/test_attention.py": False}


def test_the_report_tells_which_files_passed():
    """Would catch a file that counts as passed because one of its classes did."""
    import xml.etree.ElementTree as ElementTree

    report = ElementTree.fromstring(
        "<r><testcase classname='tests.a.test_one' name='x'/><testcase classname='tests.a.test_one.TestY' name='x'>"
        "<failure/></testcase><testcase classname='tests.a.test_two.TestZ' name='x'><skipped/></testcase>"
        "<testcase classname='chapters.1-one.two.ipynb' name='Cell 0'/></r>"
    )
    assert _passed(report.iter("testcase")) == {"tests.a.test_two", "chapters.1-one.two.ipynb"}
    assert _dotted(Book(ROOT), ROOT / "tests" / "a" / "test_two.py") == "tests.a.test_two"
    assert _dotted(Book(ROOT), ROOT / "chapters" / "1-one" / "two.ipynb") == "chapters.1-one.two.ipynb"
    assert Path(ROOT).exists()
