"""Which of the pinned versions an execution depends on: those of what it imports, and of what that pulls in.

What only renders the site, or only checks the book, is not among them: a new Sphinx executes nothing again.
"""

import functools
import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .modules import Code
from .reach import Packages, Reach

RUNNERS = ("ipykernel", "papermill")  # what executes a notebook, whatever it imports


def third_party(packages: Packages, reach: Reach, code: Code) -> set[str]:
    """The top-level packages of others that are imported on the way."""
    codes = [code, *(packages.module(name).code for name in reach.used | reach.own)]
    names = {binding.module for one in codes for several in one.bindings.values() for binding in several}
    names |= {name for one in codes for name in one.loads | one.stars}
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - set(packages.folders)


def versions(requirements: Path, imported: set[str]) -> list[str]:
    """The pins that such imports depend on, what they pull in included: not those of what only renders the site."""
    if not requirements.is_file():
        return []
    lines = [line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    pins = {canonicalize_name(re.split(r"[=<>~!\[; ]", line)[0]): line for line in lines if line}
    provides = _distributions()
    todo = {name for module in imported for name in provides.get(module, [module])} | set(RUNNERS)
    wanted: set[str] = set()
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in wanted:
            wanted.add(name)
            todo |= _pulled_in(name)
    return sorted(pins[name] for name in wanted & set(pins))


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@functools.cache
def _pulled_in(name: str) -> frozenset[str]:
    try:
        asked = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return frozenset()
    found = set()
    for line in asked:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            found.add(requirement.name)
    return frozenset(found)
