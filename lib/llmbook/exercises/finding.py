"""Where the exercises of a chapter lie: ``2-concepts/attention`` has them in ``part2_concepts/attention.py``."""

import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path

from llmbook.exercises.exercise import Exercise

HERE = Path(__file__).parent


class UnknownExercise(LookupError):
    """No such chapter or number; the message lists what there is."""

    def __str__(self) -> str:
        return str(self.args[0])


def chapters() -> list[str]:
    """The chapters that have exercises here, by their paths."""
    found = [path for path in HERE.glob("part*/*.py") if path.stem != "__init__"]
    return sorted(f"{_number_first(path.parent.name)}/{path.stem.replace('_', '-')}" for path in found)


def module_of(chapter: str) -> str:
    """The module with the exercises of a chapter, by its path; it need not exist.

    What a chapter depends on is found by this name: publishing's ``inputs.py`` asks for it.
    """
    part, _, stem = chapter.partition("/")
    return f"{__package__}.part{part.replace('-', '_')}.{stem.replace('-', '_')}"


def exercises(chapter: str) -> Mapping[int, Exercise]:
    """The exercises of ``chapter`` by number; a path, or its last part alone where only one chapter is called so.

    Raises UnknownExercise for any other name.
    """
    return pkgutil.resolve_name(f"{module_of(resolve(chapter))}:EXERCISES")


def resolve(chapter: str) -> str:
    """The path of a chapter. Raises UnknownExercise where there is none, or several."""
    known = chapters()
    if not isinstance(chapter, str):
        raise UnknownExercise(f"the chapter is {chapter!r}; expected a name such as {known[0]!r}")
    found = [one for one in known if chapter in (one, one.partition("/")[2])]
    if not found:
        raise UnknownExercise(f"no exercises for the chapter {chapter!r}; there are some for {', '.join(known)}")
    if len(found) > 1:
        raise UnknownExercise(f"{chapter!r} is the name of several chapters: say {' or '.join(map(repr, found))}")
    return found[0]


def _number_first(folder: str) -> str:
    number, _, name = re.sub("^part", "", folder).partition("_")
    return f"{number}-{name.replace('_', '-')}"
