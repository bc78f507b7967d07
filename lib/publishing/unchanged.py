"""Which test files need not run again: those that passed, and can reach nothing that has changed since.

What a test can reach is computed as for a chapter (reach.py), over the library, this package, the benchmarks and the
tests themselves; here the text of a module counts, docstrings too, for tests read them. A test that starts processes,
or looks for files, may see the whole checkout, and depends on all of it.
"""

import ast
import functools
import hashlib
import json
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path

from .book import Book
from .files import digest, write_text
from .inputs import files, key, machine
from .modules import Code, read_code
from .reach import Packages, Reach

# Names in a test, or in what it imports of tests, with which it may see more than it imports.
AT_LARGE = {"ROOT", "__file__", "subprocess", "Popen", "glob", "rglob", "iterdir", "cwd"}
ENVIRONMENT = ("CI", "CHROME", "LLMBOOK_DATA")
APART = {"site", "colab", "lowest"}  # folders of tests with a command of their own


class KnownTests:
    """The test files of a checkout, and what is known of their last pass."""

    def __init__(self, book: Book):
        self.book = book
        self.place = book.build / "test" / "passed.json"
        lib = book.root / "lib"
        self.packages = Packages({"llmbook": lib, "publishing": lib, "tests": book.root, "benchmarks": book.root})
        there = sorted((book.root / "tests").rglob("test_*.py"))
        self._keys: dict[Path, str] = {}
        self.files = [path for path in there if not APART & set(path.relative_to(book.root).parts)]

    def changed(self) -> list[Path]:
        """The files to run: all but those that passed as they are."""
        known = self._known()
        return [path for path in self.files if known.get(self.book.name(path)) != self.key(path)]

    def keep(self, passed: Collection[Path], ran: Collection[Path]) -> None:
        """Remember which of the files that `ran` passed; what is known of others stays."""
        known = self._known()
        for path in ran:
            known.pop(self.book.name(path), None)
        known |= {self.book.name(path): self.key(path) for path in passed}
        write_text(self.place, json.dumps(known, indent=1, sort_keys=True) + "\n")

    def key(self, path: Path) -> str:
        """The key of `path` as it was when first asked: what is edited during a run is not what passed."""
        if path not in self._keys:
            self._keys[path] = key(self.inputs(path))
        return self._keys[path]

    def inputs(self, path: Path) -> dict[str, str]:
        """All that the outcome of one file of tests depends on, by name."""
        own = [path, *self._beside(path)]
        codes = [self._code(file) for file in own]
        reach = Reach(self.packages)
        for code in codes:
            reach.follow(code)
        modules = [self.packages.module(name) for name in sorted(reach.used | reach.own)]
        found = {f"module {module.name}": _hash(module.text) for module in modules}
        found |= {f"test {self.book.name(file)}": _hash(file.read_text(encoding="utf-8")) for file in own}
        helpers = codes + [module.code for module in modules if module.name.startswith("tests")]
        whole = reach.everything or any(map(_at_large, helpers))
        if whole or any(module.name.startswith(("publishing", "benchmarks")) for module in modules):
            found["checkout"] = self._checkout
        data = files(self.packages, reach, codes[0])
        pinned = [self.book.root / name for name in ("requirements.txt", "pytest.ini")]
        for file in [*data, *(file for file in pinned if file.exists())]:
            found[f"file {self.book.name(file)}"] = digest(self.book.root, [file])
        return found | {"machine": json.dumps(machine(ENVIRONMENT))}

    def _code(self, path: Path) -> Code:
        name = ".".join(path.relative_to(self.book.root).with_suffix("").parts)
        return read_code(ast.parse(path.read_text(encoding="utf-8")).body, name)

    def _beside(self, path: Path) -> Iterable[Path]:
        """The conftest files that pytest reads for `path`."""
        for folder in path.parents:
            if (folder / "conftest.py").is_file() and self.book.root in folder.parents:
                yield folder / "conftest.py"

    @functools.cached_property
    def _checkout(self) -> str:
        """A digest of every file that git knows or would add."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=self.book.root, capture_output=True, text=True, check=True).stdout
        there = [self.book.root / name for name in listed.split("\0") if name]
        return digest(self.book.root, [path for path in there if path.is_file()])

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self.place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _at_large(code: Code) -> bool:
    return bool(AT_LARGE & ({part for chain in code.chains for part in chain} | set(code.bindings)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
