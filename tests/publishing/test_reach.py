"""Imports are followed to the modules that are used, and where the text leaves a doubt, more is taken."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from publishing import notebooks
from publishing.book import ROOT, Book
from publishing.execute import environment
from publishing.modules import read_code
from publishing.reach import Packages, Reach

FILES = {
    "__init__.py": "",
    "model/__init__.py": "from lib.model.attention import attend\nfrom lib.model.body import Body\n__all__ = []\n",
    "model/attention.py": "from lib.model.masks import causal\ndef attend(): return causal()\n",
    "model/masks.py": "def causal(): return 1\n",
    "model/body.py": "import typing\nif typing.TYPE_CHECKING:\n    from lib.text import words\nclass Body: ...\n",
    "text/__init__.py": "from .words import split\nfrom . import hidden as seen\n",
    "text/words.py": "def split():\n    from ..model.masks import causal\n    return causal\n",
    "text/hidden.py": "X = 1\n",
    "acts/__init__.py": "from lib.acts import page, quiet\npage.register()\n",
    "acts/page.py": "def register(): ...\n",
    "acts/quiet.py": "VALUE = 1\n",
    "acts/loud.py": "import lib.model.body\nlib.model.body.Body.extra = 1\n",
    "lazy/__init__.py": "def __getattr__(name): ...\n",
    "lazy/deep.py": "A = 1\n",
    "kinds/__init__.py": "from lib.kinds.a import A\nfrom lib.kinds.b import B\nKINDS = {'a': A}\nload = KINDS.get\n",
    "kinds/a.py": "A = 1\n",
    "kinds/b.py": "B = 1\n",
    "late.py": "import importlib\ndef call(name): return importlib.import_module(name)\n",
    "program/__init__.py": "",
    "program/__main__.py": "from lib.text.hidden import X\n",
    "maybe.py": "try:\n    from lib.kinds.a import A\nexcept ImportError:\n    from lib.kinds.b import B as A\n",
}


@pytest.fixture
def packages(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Packages({"lib": tmp_path})


def used(packages, source):
    return {name.removeprefix("lib.") for name in Reach(packages, read_code(ast.parse(source).body)).used}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from lib.model import attend", {"model.attention", "model.masks"}),
        ("from lib.model import Body", {"model.body"}),
        ("from lib import model\nmodel.attend()", {"model.attention", "model.masks"}),
        ("from lib import model as m\nm.attention.attend()", {"model.attention", "model.masks"}),
        ("import lib.model as m\nm.Body", {"model.body"}),
        ("import lib.model\nlib.model.Body()", {"model.body"}),
        ("import lib.model", set()),
        ("import lib.model.masks", {"model.masks"}),
        ("from lib.model.body import *", {"model.body"}),
        ("def f():\n    from lib.model.masks import causal", {"model.masks"}),
        ("if True:\n    from lib.model.masks import causal", {"model.masks"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lib.model.masks", set()),
        ("from lib.text import split", {"text.words", "model.masks"}),
        ("from lib.text import seen\nseen.X", {"text.hidden"}),
        ("from lib.kinds import load", {"kinds.a"}),
        ("from lib.kinds import B", {"kinds.b"}),
        ("from lib.maybe import A", {"maybe", "kinds.a", "kinds.b"}),
        ("from lib.acts import quiet", {"acts.quiet", "acts.page"}),
        ("import subprocess\nsubprocess.run(['python', '-m', 'lib.program'])", {"program.__main__", "text.hidden"}),
        ("code = 'from lib.model import Body'", {"model.body"}),
        ("run('lib.model.masks:causal')", {"model.masks"}),
        ("print('see lib.model.masks for more')", set()),
    ],
)
def test_names_lead_to_the_modules_that_define_them(packages, source, expected):
    """Would catch a change that reaches a chapter unseen, and one beside it that makes it run again for nothing."""
    assert used(packages, source) == expected


@pytest.mark.parametrize(
    ("source", "at_least"),
    [
        ("from lib import model\nuse(model)", {"model.attention", "model.body", "model.masks"}),
        ("from lib import model\nmodel.surprise", {"model.attention", "model.body", "model.masks"}),
        ("from lib.model import *", {"model.attention", "model.body", "model.masks"}),
        ("from lib.lazy import A", {"lazy.deep"}),
        ("from lib.late import call", {"late", "model.body", "kinds.b", "text.hidden", "lazy.deep"}),
        ("import importlib\nimportlib.import_module(name)", {"model.body", "kinds.b", "text.hidden"}),
    ],
)
def test_a_doubt_takes_more(packages, source, at_least):
    """Would catch a package used as a value, or an import by a computed name, that is followed nowhere."""
    assert at_least <= used(packages, source)


def test_a_module_that_changes_another_counts_once_it_is_imported(packages, tmp_path):
    """Would catch a patch made at import time by a module whose names nobody uses."""
    assert "acts.loud" not in used(packages, "from lib.acts import quiet")
    (tmp_path / "lib/acts/__init__.py").write_text("from lib.acts import loud, quiet\n")
    found = used(Packages({"lib": tmp_path}), "from lib.acts import quiet")
    assert found == {"acts.quiet", "acts.loud", "model.body"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork: each notebook imports in a process of its own")
def test_what_the_chapters_import_is_what_was_read():
    """Would catch an import of the real library that the reading of its text does not see."""
    book = Book(ROOT)
    packages = Packages({"llmbook": ROOT / "lib"})
    sources, expected = [], []
    for path in book.notebooks:
        trees = [ast.parse(c.source) for c in notebooks.code_cells(notebooks.read(path))[1:] if "%" not in c.source[:1]]
        body = [node for tree in trees for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        sources.append("\n".join(map(ast.unparse, body)))
        expected.append(Reach(packages, read_code(body)).loaded)
    program = (
        "import json, os, sys, torch, plotly.graph_objects, IPython.display, tokenizers, safetensors.torch\n"
        "for source in json.load(sys.stdin):\n"
        "    if not os.fork():\n"
        "        exec(source, {})\n"
        "        print(json.dumps(sorted(m for m in sys.modules if m.startswith('llmbook'))), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(sources),
        env=environment(book),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = [set(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(imported) == len(sources)
    for path, really, read in zip(book.notebooks, imported, expected, strict=True):
        assert really <= read, f"{Path(path).name} imports {sorted(really - read)}"


def test_no_class_of_the_library_registers_its_subclasses():
    """Would catch a registry that fills itself on import: the reading takes the definition of a class for harmless."""
    for path in (ROOT / "lib" / "llmbook").rglob("*.py"):
        assert "__init_subclass__" not in path.read_text(encoding="utf-8"), path
