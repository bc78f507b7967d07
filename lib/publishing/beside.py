"""Environments beside the book's own: with other versions of its packages, with its torch, and with nothing else of it.

PyTorch is gigabytes on a machine with a GPU, so it is not installed again: it is linked from the book's environment,
with its libraries. What the named packages need and nobody pinned is linked too, whatever version the book has. The
links lie in a folder of their own, outside the environment: pip sees them as installed, and cannot replace them.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

STAMP = "made-of"
OFFLINE = ("No matching distribution", "Max retries", "NewConnectionError", "name resolution", "timed out", "SSLError")


class Unreachable(Exception):
    """The package index did not answer; what was tried is named."""


def make(folder: Path, pins: Sequence[str], linked: Iterable[str] = ("torch",)) -> Path:
    """The Python of an environment in ``folder`` that holds exactly ``pins`` (each ``name==version``) and, by links,
    ``linked`` with all that these and the pins need. Kept from the last time if nothing has changed.

    Raises Unreachable without an index, RuntimeError with pip's last words for anything else.
    """
    linked = list(linked)
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ingredients = sys.version, sys.prefix, str(folder), sorted(pins), sorted(linked)
    wanted = hashlib.sha256(repr(ingredients).encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    stamp.unlink(missing_ok=True)
    venv.create(folder / "env", clear=True, with_pip=False)
    site = _site(python)
    pip(sys.executable, "--python", str(python), "install", "--no-deps", *pins)
    links = folder / "linked"
    shutil.rmtree(links, ignore_errors=True)  # links, and what Python has compiled beside them
    links.mkdir()
    installed = {canonicalize_name(found.name) for found in distributions(path=[str(site)])}
    for name in _closure([*linked, *installed], without=installed, site=site):
        link(name, links)
    (site / "linked.pth").write_text(f"{links}\n")
    stamp.write_text(wanted)
    return python


def pip(python: str | Path, *arguments: str) -> str:
    """What ``pip`` prints, run quietly by ``python``. Raises Unreachable or RuntimeError.

    It does not see ``PYTHONPATH``: the library of a checkout on it would count as installed.
    """
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no message"]
        kind = Unreachable if any(sign in done.stderr for sign in OFFLINE) else RuntimeError
        raise kind(f"{' '.join(arguments[:4])} …: {errors[-1]}")
    return done.stdout


def complaints(python: Path) -> set[str]:
    """What ``pip check`` has to say against the environment of ``python``, a line each."""
    done = subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "check"], capture_output=True, text=True)
    return {line for line in done.stdout.splitlines() if line and not line.startswith("No broken")}


def pins(requirements: Path) -> list[str]:
    """The lines of a requirements file, without its comments."""
    lines = (line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def packages(python: Path) -> dict[str, str]:
    """Name -> version of everything ``python`` finds, links included."""
    ask = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    printed = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in printed.split())}


def link(name: str, folder: Path) -> None:
    """Links in ``folder`` to everything the book's environment has of one distribution."""
    found = distribution(name)
    tops = {Path(file).parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    for top in tops:
        target = Path(found.locate_file(top))
        if target.exists() and not (folder / top).exists():  # some packages share a folder: the first brings it all
            (folder / top).symlink_to(target.resolve())


def _closure(names: Iterable[str], *, without: set[str], site: Path) -> list[str]:
    """The distributions that ``names`` need, they themselves included, and that are not installed in ``site``."""
    todo, seen = [(canonicalize_name(name), "") for name in names], set()  # a name, and one of its extras
    while todo:
        name, extra = todo.pop()
        try:
            found = next(iter(Distribution.discover(name=name, path=[str(site)])), None) or distribution(name)
        except PackageNotFoundError:
            continue  # the book does not have it either: `pip check` will say so
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for needed in map(Requirement, found.requires or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(needed.name), wanted) for wanted in ("", *needed.extras)]
    return sorted({name for name, _ in seen} - without)


def _site(python: Path) -> Path:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    printed = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout
    return Path(printed.strip())
