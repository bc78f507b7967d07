"""The book as a whole: where it lies, its table of contents, its address, its notebooks.

Everything is named by its path inside the repository, never by its stem: two parts may both have an `attention`.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
IGNORED = {".ipynb_checkpoints", "_build", ".venv"}
# Pages that the build writes itself: listed in _toc.yml, with no file in the repository.
STATUS, REFERENCE = "status", "reference"


RELEASE = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
DEVELOPMENT = re.compile(RELEASE.pattern + r"\.dev0")


class BookError(Exception):
    """Something the author must mend; the message says what and how, and no traceback is shown."""


@dataclass(frozen=True)
class Book:
    """A checkout of the book at `root`."""

    root: Path = ROOT

    @property
    def build(self) -> Path:
        return self.root / "_build"

    @property
    def html(self) -> Path:
        return self.build / "html"

    @cached_property
    def config(self) -> dict:
        return self._yaml("_config.yml")

    @cached_property
    def toc(self) -> list[str]:
        """The documents of `_toc.yml` in reading order, without their suffix."""
        toc = self._yaml("_toc.yml")
        if "root" not in toc:
            raise BookError("_toc.yml: no `root`: name the home page there.")
        return [toc["root"], *_files(toc)]

    @cached_property
    def pages(self) -> list[Path]:
        """The source file of every document of the table of contents; what the build writes has none.

        Raises BookError for a document with no file, and for a notebook in `chapters/` that is not listed.
        """
        problems, pages = [], []
        for name in self.toc:
            found = [self.root / f"{name}{suffix}" for suffix in (".ipynb", ".md")]
            found = [path for path in found if path.is_file()]
            if self.is_generated(name):
                problems += [f"{self.name(path)} is in the way of the page that the build writes." for path in found]
            elif len(found) == 1:
                pages += found
            else:
                what = "is both a notebook and a Markdown file" if found else "has no file"
                problems.append(f"_toc.yml lists {name}, which {what}: mend the name or the file.")
        for path in sorted((self.root / "chapters").rglob("*.ipynb")):
            if not IGNORED & set(path.parts) and path not in pages:
                problems.append(f"{self.name(path)} is not in _toc.yml: list it there or move it out of chapters/.")
        if duplicates := sorted({name for name in self.toc if self.toc.count(name) > 1}):
            problems.append(f"_toc.yml lists twice: {', '.join(duplicates)}.")
        if problems:
            raise BookError("\n".join(problems))
        return pages

    @property
    def notebooks(self) -> list[Path]:
        """Every page that is executed: the chapters, and the home page where it is a notebook."""
        return [path for path in self.pages if path.suffix == ".ipynb"]

    def is_chapter(self, path: Path) -> bool:
        return self.root / "chapters" in path.parents

    @staticmethod
    def is_generated(name: str) -> bool:
        """Whether a document of `_toc.yml` is written by the build: the status page and those of the reference."""
        return name == STATUS or name.startswith(f"{REFERENCE}/")

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def find(self, chapter: str) -> Path:
        """The notebook meant by `2-concepts/attention`, with or without `chapters/` and `.ipynb`.

        A draft that is not listed yet is found too: its author may tidy and run it.
        """
        wanted = chapter.strip("/").removesuffix(".ipynb").removeprefix("chapters/")
        there = [*sorted(self.root.glob("*.ipynb")), *sorted((self.root / "chapters").rglob("*.ipynb"))]
        there = [path for path in there if not IGNORED & set(path.parts)]
        short = {self.name(path).removesuffix(".ipynb").removeprefix("chapters/"): path for path in there}
        if wanted not in short:
            raise BookError(f"no chapter {chapter!r}: there are {', '.join(short)}.")
        return short[wanted]

    @property
    def address(self) -> tuple[str, str]:
        """URL and branch of the public repository, from `_config.yml` and nowhere else."""
        repository = self.config.get("repository") or {}
        try:
            return repository["url"], repository["branch"]
        except KeyError as missing:
            raise BookError(f"_config.yml: no repository.{missing.args[0]}.") from None

    @cached_property
    def version(self) -> str:
        """The version of library and book, from `lib/pyproject.toml` and nowhere else.

        `0.2.0` is a release; `0.2.0.dev0` is what leads up to it. Raises BookError for anything else.
        """
        try:
            project = tomllib.loads((self.root / "lib/pyproject.toml").read_text(encoding="utf-8"))["project"]
            version = project["version"]
        except FileNotFoundError:
            raise BookError(f"lib/pyproject.toml is missing from {self.root}: run from a complete clone.") from None
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise BookError(f"lib/pyproject.toml states no project.version ({error}).") from None
        if not RELEASE.fullmatch(version) and not DEVELOPMENT.fullmatch(version):
            raise BookError(f"lib/pyproject.toml: version {version!r} is neither like 0.2.0 nor like 0.2.0.dev0.")
        return version

    @property
    def ref(self) -> str:
        """What a notebook of this checkout installs and opens: the release's tag, or the branch between releases."""
        return f"v{self.version}" if RELEASE.fullmatch(self.version) else self.address[1]

    def _yaml(self, name: str) -> dict:
        path = self.root / name
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BookError(f"{name} is missing from {self.root}: run from a complete clone.") from None
        except yaml.YAMLError as error:
            raise BookError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise BookError(f"{name} must hold a mapping, and holds {type(content).__name__}.")
        return content


def _files(node: object) -> list[str]:
    """Every `file:` below a node of the table of contents, in order."""
    if isinstance(node, list):
        return [name for item in node for name in _files(item)]
    if isinstance(node, dict):
        own = [node["file"]] if "file" in node else []
        return own + [name for value in node.values() if isinstance(value, list) for name in _files(value)]
    return []
