"""Somebody else's notebook service: its environment, an empty folder, and a stand-in of the book's address."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from publishing import beside
from publishing.book import ROOT, Book

from .service import Service

HERE = Path(__file__).parent
ENVIRONMENT = ROOT / "_build" / "environments" / "colab"


@pytest.fixture(scope="session")
def python() -> Path:
    """The Python of an environment like Colab's, as it is before anyone has opened a notebook."""
    pins = beside.pins(HERE / "requirements.txt")
    kept = ENVIRONMENT / f"packages-before-{hashlib.sha256(str(pins).encode()).hexdigest()[:8]}"
    try:
        python = beside.make(ENVIRONMENT, pins)
    except beside.Unreachable as error:
        pytest.skip(f"no package index: {error}")
    if not kept.exists():
        kept.write_text("\n".join(beside.packages(python)))
    if left := beside.packages(python).keys() - kept.read_text().split():
        beside.pip(python, "uninstall", "--yes", *sorted(left))  # what the last session's set-up cell installed
    return python


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Path:
    """A git repository that holds this checkout as it is now, on the branch or tag that the set-up cells install."""
    folder, (_, branch), ref = tmp_path_factory.mktemp("address") / "book", Book(ROOT).address, Book(ROOT).ref
    ask = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "lib"]
    listed = subprocess.run(ask, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    git = ["git", "-C", folder, "-c", "user.name=The book", "-c", "user.email=book@localhost"]
    for command in (
        ["init", "--quiet", "--initial-branch", branch],
        ["add", "--all"],
        ["commit", "--quiet", "-m", "-"],
        *([["tag", ref]] if ref != branch else []),
    ):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def service(python, repository, tmp_path_factory) -> Service:
    """Runs notebooks there. The book is not installed yet: the first set-up cell does that."""
    return Service(python, repository, address=Book(ROOT).address[0], folder=tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def installed(service, notebooks) -> dict[str, dict[str, str]]:
    """The packages ``before`` and ``after`` the set-up cell of a chapter has run, and what pip had against each."""
    before, against = beside.packages(service.python), beside.complaints(service.python)
    service.run(notebooks[-1], only=service.is_setup)
    after = {"after": beside.packages(service.python), "against after": beside.complaints(service.python)}
    return {"before": before, "against before": against, **after}


@pytest.fixture(scope="session")
def notebooks() -> list[Path]:
    return Book(ROOT).notebooks
