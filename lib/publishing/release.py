"""`make release VERSION=0.2.0`: a commit of that version, its tag, and the commit after which development goes on.

Everything happens in a worktree beside the checkout. Only when the wheel has been built, installed in an empty
environment and tried does the checkout move forward and get the tag; whatever fails before that leaves it untouched.
Nothing is pushed: the last line says how.
"""

import contextlib
import datetime
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import beside
from .address import change
from .book import RELEASE, Book, BookError
from .changelog import Changelog
from .files import write_bytes, write_text
from .tidy import check, tidy

# What a reader of the first chapter needs: the package and its data are there, and a model says something.
TRIAL = """\
import sys
from importlib.metadata import version
import llmbook
import torch
from llmbook.inference import generate
from llmbook.interop import load_pretrained

assert llmbook.__file__.startswith(sys.prefix), f"{llmbook.__file__} is not in the empty environment"
assert version("llmbook") == sys.argv[1], f"the wheel says it is {version('llmbook')}"
model, tokenizer = load_pretrained("shakespeare-chars")
prompt = torch.tensor([tokenizer.encode("ROMEO:")])
print(generate(model, prompt, max_new_tokens=3).shape[1] - prompt.shape[1])
"""


def release(book: Book, version: str, day: datetime.date | None = None, say: Callable[[str], None] = print) -> None:
    """Make the release `version` of the clean checkout `book`, dated `day` (today).

    Raises BookError, with the checkout as it was, where it cannot be made.
    """
    _admit(book, version)
    day = day or datetime.date.today()
    with _worktree(book) as copy:
        _write(copy, version, day)
        released = _commit(copy, f"Release {version}")
        say(f"Building llmbook {version} and trying it in an empty environment")
        wheel = _wheel(copy)
        _try(wheel, version)
        following = _next(version)
        _set_version(copy, following)
        developed = _commit(Book(copy.root), f"{following}: what follows {version}")
        kept = book.build / "release" / wheel.name
        write_bytes(kept, wheel.read_bytes())
    _git(book, "tag", "--annotate", f"v{version}", "--message", f"Release {version}", released)
    try:
        _git(book, "merge", "--ff-only", "--quiet", developed)
    except BookError:
        _git(book, "tag", "--delete", f"v{version}")
        raise
    branch = book.address[1]
    say(f"Released {version}: commit {released[:9]}, tag v{version}, {kept.relative_to(book.root)}.")
    say(f"Nothing is pushed. To publish it: git push --atomic origin {branch} v{version}")


def _admit(book: Book, version: str) -> None:
    """Raise BookError for whatever stands against this release."""
    if not RELEASE.fullmatch(version):
        raise BookError(f"VERSION={version!r} is not a release: give three numbers, for example 0.2.0.")
    branch, here = book.address[1], _git(book, "branch", "--show-current")
    if here != branch:
        raise BookError(f"releases are made on {branch}, and this is {here or 'no branch'}: git switch {branch}.")
    if dirty := _git(book, "status", "--porcelain"):
        raise BookError(f"the checkout is not clean; commit or put away what is not committed:\n{dirty}")
    tags = [tag.removeprefix("v") for tag in _git(book, "tag", "--list", "v*").split()]
    if version in tags:
        raise BookError(f"there is a tag v{version} already: choose the next version.")
    before = [name for name in (*tags, *_changelog(book).versions, book.version) if RELEASE.fullmatch(name)]
    if (newest := max(before, key=_numbers, default=None)) and _numbers(version) <= _numbers(newest):
        raise BookError(f"VERSION={version} is not newer than {newest}.")
    if problems := check(book):
        raise BookError("\n".join([*problems, "The contract is not kept: mend the above before a release."]))


def _write(book: Book, version: str, day: datetime.date) -> None:
    """Everything that names the version or the day, in the files of `book`."""
    log = _changelog(book).release(version, day, book.address[0])
    write_text(book.root / "CHANGELOG.md", log.text)
    _set_version(book, version)
    citation = book.root / "CITATION.cff"
    if citation.is_file():
        text = re.sub(r"(?m)^date-released: .*\n?", "", citation.read_text(encoding="utf-8"))
        dated = f"version: {version}\ndate-released: {day.isoformat()}"
        write_text(citation, re.sub(r"(?m)^version: .*$", dated, text))
    if problems := check(Book(book.root)):
        raise BookError("\n".join([*problems, f"Rewritten for {version}, the book does not keep its contract."]))


def _set_version(book: Book, version: str) -> None:
    """State `version`, and bring set-up cells and addresses to what it installs."""
    project = book.root / "lib" / "pyproject.toml"
    text, found = re.subn(r'(?m)^version = "[^"]*"', f'version = "{version}"', project.read_text(encoding="utf-8"))
    if found != 1:
        raise BookError(f"lib/pyproject.toml has {found} lines `version = …` where one was expected.")
    write_text(project, text)
    renewed = Book(book.root)
    change(renewed, *renewed.address)
    tidy(renewed, renewed.notebooks)


def _changelog(book: Book) -> Changelog:
    try:
        return Changelog((book.root / "CHANGELOG.md").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BookError("there is no CHANGELOG.md: a release says what it changes.") from None


def _wheel(book: Book) -> Path:
    """The wheel of the library, built as pip builds it for a reader."""
    out = book.build / "wheel"
    try:
        beside.pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(out), str(book.root / "lib"))
    except (beside.Unreachable, RuntimeError) as error:
        raise BookError(f"the wheel could not be built: {error}") from None
    (wheel,) = out.glob("*.whl")
    return wheel


def _try(wheel: Path, version: str) -> None:
    """Install the wheel where nothing of the book is, and let a model write three tokens there."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = beside.make(Path(folder) / "environment", [str(wheel)])
        except (beside.Unreachable, RuntimeError) as error:
            raise BookError(f"the wheel could not be installed: {error}") from None
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LLMBOOK"))}
        command = [python, "-I", "-c", TRIAL, version]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode or done.stdout.split() != ["3"]:
        told = (done.stderr.strip() or f"it drew {done.stdout.strip()!r} tokens, not 3").splitlines()
        raise BookError("\n".join(["the wheel does not work in an empty environment:", *told[-6:]]))


@contextlib.contextmanager
def _worktree(book: Book) -> Iterator[Book]:
    """A second checkout of the same commit, gone when it is left."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book"
        _git(book, "worktree", "add", "--quiet", "--detach", str(path), "HEAD")
        try:
            yield Book(path)
        finally:
            _git(book, "worktree", "remove", "--force", str(path))


def _commit(book: Book, message: str) -> str:
    """Commit everything; the new commit's name. Hooks stay out: they ask for an environment that is not here."""
    _git(book, "commit", "--quiet", "--no-verify", "--all", "--message", message)
    return _git(book, "rev-parse", "HEAD")


def _git(book: Book, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(book.root), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise BookError("a release needs git, and there is none.") from None
    if done.returncode:
        raise BookError(f"git {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _next(version: str) -> str:
    """What development aims at after `version`: a higher middle number, since most releases bring chapters."""
    major, minor, _ = _numbers(version)
    return f"{major}.{minor + 1}.0.dev0"
