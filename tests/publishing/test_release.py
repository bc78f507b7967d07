"""A release: three files, two commits and a tag, or nothing at all."""

import datetime
import re
import shutil
import subprocess

import pytest

from publishing import beside
from publishing import release as releasing
from publishing.book import ROOT, Book, BookError
from publishing.changelog import Changelog
from publishing.contract import problems
from publishing.release import release
from publishing.tidy import check

DAY = datetime.date(2026, 12, 24)
CHANGES = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A chapter on birds.\n"
CITATION = "cff-version: 1.2.0\nversion: 0.0.1\ndate-released: 2026-01-01\n"


def git(book, *arguments):
    done = subprocess.run(["git", "-C", book.root, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(book):
    """The small book under git, on its branch, ready for a release."""
    (book.root / "CHANGELOG.md").write_text(CHANGES)
    (book.root / "CITATION.cff").write_text(CITATION)
    (book.root / ".gitignore").write_text("_build/\n__pycache__/\n")
    git(book, "init", "--quiet", "--initial-branch", "main")
    git(book, "config", "user.name", "An author")
    git(book, "config", "user.email", "author@example.org")
    git(book, "add", "--all")
    git(book, "commit", "--quiet", "--message", "First")
    return book


@pytest.fixture
def no_wheel(monkeypatch, tmp_path):
    """The wheel is made and tried in tests of their own; here it is a file."""
    wheel = tmp_path / "llmbook-0.2.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    monkeypatch.setattr(releasing, "_wheel", lambda book: wheel)
    monkeypatch.setattr(releasing, "_try", lambda wheel, version: None)


def state(book):
    """All that a failed release must leave as it was."""
    files = {path: path.read_bytes() for path in book.root.rglob("*") if path.is_file() and ".git" not in path.parts}
    return files, git(book, "rev-parse", "HEAD"), git(book, "tag"), git(book, "worktree", "list"), git(book, "status")


def shown(book, ref, name):
    return git(book, "show", f"{ref}:{name}")


def test_a_release_names_itself_everywhere(repository, no_wheel):
    """Would catch notebooks that install the branch, or a tag, changelog or citation of another version."""
    told = []
    release(repository, "0.2.0", DAY, told.append)
    assert 'version = "0.2.0"' in shown(repository, "v0.2.0", "lib/pyproject.toml")
    for path in repository.notebooks:
        assert "book@v0.2.0#subdirectory=lib" in shown(repository, "v0.2.0", repository.name(path))
    log = shown(repository, "v0.2.0", "CHANGELOG.md")
    assert re.search(r"## \[Unreleased\]\n\n## \[0\.2\.0\] - 2026-12-24\n\n### Added\n\n- A chapter on birds\.", log)
    assert "[Unreleased]: https://github.com/someone/book/compare/v0.2.0...HEAD" in log
    citation = shown(repository, "v0.2.0", "CITATION.cff")
    assert citation == "cff-version: 1.2.0\nversion: 0.2.0\ndate-released: 2026-12-24"
    assert git(repository, "cat-file", "-t", "v0.2.0") == "tag"
    assert told[-1].endswith("git push --atomic origin main v0.2.0")
    assert (repository.build / "release/llmbook-0.2.0-py3-none-any.whl").read_bytes() == b"a wheel"


def test_development_goes_on_from_the_branch(repository, no_wheel):
    """Would catch notebooks on the branch that go on installing the release while the library changes."""
    release(repository, "0.2.0", DAY)
    after = Book(repository.root)
    assert (after.version, after.ref) == ("0.3.0.dev0", "main")
    assert git(repository, "log", "--format=%s", "-2").splitlines() == [
        "0.3.0.dev0: what follows 0.2.0",
        "Release 0.2.0",
    ]
    assert git(repository, "rev-parse", "v0.2.0^{commit}") == git(repository, "rev-parse", "HEAD~1")
    assert check(after) == []
    assert git(repository, "status", "--porcelain") == ""
    text = (repository.root / "CHANGELOG.md").read_text().replace("[Unreleased]\n", "[Unreleased]\n\n- Mended.\n", 1)
    (repository.root / "CHANGELOG.md").write_text(text)
    git(repository, "commit", "--quiet", "--all", "--message", "Mend")
    release(after, "0.2.1", DAY)  # between 0.2.0 and the 0.3.0 that was aimed at
    log = Changelog((repository.root / "CHANGELOG.md").read_text())
    assert log.versions == ["0.2.1", "0.2.0"]
    assert log.text.endswith("[0.2.1]: https://github.com/someone/book/compare/v0.2.0...v0.2.1\n"
                             "[0.2.0]: https://github.com/someone/book/releases/tag/v0.2.0\n")  # fmt: skip


def dirty(book):
    (book.root / "index.md").write_text("# Another home\n")


def untracked(book):
    (book.root / "notes.txt").write_text("mine\n")


def tagged(book):
    git(book, "tag", "v0.2.0")


def later(book):
    git(book, "tag", "v0.10.0")


def elsewhere(book):
    git(book, "switch", "--quiet", "--create", "feature")


def silent(book):
    (book.root / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n### Added\n")
    git(book, "commit", "--quiet", "--all", "--message", "-")


def no_log(book):
    (book.root / "CHANGELOG.md").unlink()
    git(book, "commit", "--quiet", "--all", "--message", "-")


def broken(book):
    path = book.root / "chapters/one/attention.ipynb"
    path.write_text(path.read_text().replace("assert value", "value"))
    git(book, "commit", "--quiet", "--all", "--message", "-")


@pytest.mark.parametrize(
    ("spoil", "version", "word"),
    [
        (dirty, "0.2.0", "not clean"),
        (untracked, "0.2.0", "notes.txt"),
        (tagged, "0.2.0", "a tag v0.2.0 already"),
        (later, "0.9.0", "not newer than 0.10.0"),
        (elsewhere, "0.2.0", "releases are made on main, and this is feature"),
        (silent, "0.2.0", "says nothing under Unreleased"),
        (no_log, "0.2.0", "no CHANGELOG.md"),
        (broken, "0.2.0", "no `assert` on the claim"),
        (lambda book: None, "0.2", "not a release"),
        (lambda book: None, "0.2.0.dev0", "not a release"),
        (lambda book: None, "", "not a release"),
    ],
)
def test_what_stands_against_it_is_said_and_nothing_changes(repository, no_wheel, spoil, version, word):
    """Would catch a release made of uncommitted work, of an older number or of a broken book, or half made."""
    spoil(repository)
    before = state(repository)
    with pytest.raises(BookError, match=re.escape(word)):
        release(Book(repository.root), version, DAY)
    assert state(repository) == before


def test_a_wheel_that_fails_leaves_everything(repository, monkeypatch, no_wheel):
    """Would catch a tag, a commit or a worktree left over from a release whose wheel did not work."""
    monkeypatch.setattr(releasing, "_try", lambda *_: (_ for _ in ()).throw(BookError("it does not work")))
    before = state(repository)
    with pytest.raises(BookError, match="does not work"):
        release(repository, "0.2.0", DAY)
    assert state(repository) == before


def test_a_checkout_that_moved_meanwhile_gets_no_tag(repository, monkeypatch, no_wheel):
    """Would catch a tag on a commit that the branch does not hold."""

    def commit_meanwhile(*_):
        (repository.root / "index.md").write_text("# Another home, made while the wheel was built\n")
        git(repository, "commit", "--quiet", "--all", "--message", "Meanwhile")

    monkeypatch.setattr(releasing, "_try", commit_meanwhile)
    with pytest.raises(BookError, match="git merge"):
        release(repository, "0.2.0", DAY)
    assert git(repository, "tag") == ""
    assert git(repository, "log", "-1", "--format=%s") == "Meanwhile"


@pytest.mark.network
@pytest.mark.parametrize("lost", [None, "llmbook/published/shakespeare-chars.bin"])
def test_the_real_wheel_is_tried_in_an_empty_environment(tmp_path, lost):
    """Would catch a wheel without a model, and a trial that finds it in the checkout instead."""
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "publishing")
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=ignored)
    book = Book(tmp_path)
    if lost:
        (tmp_path / "lib" / lost).unlink()
    try:
        wheel = releasing._wheel(book)
    except BookError as error:
        if any(sign in str(error) for sign in beside.OFFLINE):
            pytest.skip(f"no package index to build a wheel with: {error}")
        raise
    if lost:
        with pytest.raises(BookError, match="shakespeare-chars"):
            releasing._try(wheel, book.version)
    else:
        releasing._try(wheel, book.version)


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0rc1", "0.02.0"])
def test_a_version_of_another_form_is_refused(book, version):
    """Would catch a version from which no tag, and no set-up cell, could be made."""
    project = book.root / "lib/pyproject.toml"
    project.write_text(project.read_text().replace("0.1.0.dev0", version))
    with pytest.raises(BookError, match=r"neither like 0\.2\.0 nor like"):
        _ = Book(book.root).ref


def test_a_notebook_of_a_release_must_install_it(book):
    """Would catch a version changed by hand, with set-up cells that still install the branch."""
    project = book.root / "lib/pyproject.toml"
    project.write_text(project.read_text().replace("0.1.0.dev0", "0.1.0"))
    renewed = Book(book.root)
    assert "the set-up cell differs" in problems(renewed, renewed.notebooks[0])[0]
    assert any("is not the address in _config.yml at v0.1.0" in problem for problem in check(renewed))
