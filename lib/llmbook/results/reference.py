"""The numbers a chapter gave on the authors' machine, and how far they move with the seed.

One file a chapter, ``references/PART/NAME.json``, made by ``make reference`` from several runs: one as the chapter is,
the others with all its seeds moved. It holds a set of values for each scale that has been run.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from llmbook.results.circumstances import Circumstances, differences, settings
from llmbook.results.quantities import named
from llmbook.results.recorded import Recorded, made_by
from llmbook.storage import write_file

FOLDER = Path(__file__).parent / "references"
# Student's t, two-sided 99 %, by the number of runs: the next run with another seed is outside once in a hundred times.
QUANTILES = {2: 63.7, 3: 9.92, 4: 5.84, 5: 4.60, 6: 4.03, 7: 3.71, 8: 3.50, 9: 3.36, 10: 3.25}
STATED = 0.02  # of the value: the band of a number that was measured once


class DamagedReference(ValueError):
    """A reference that cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Band:
    """Where a number of ours lies: ``centre`` ± ``half``."""

    centre: float
    half: float
    exact: bool = False

    @classmethod
    def of(cls, values: list[float], unit: float = 0.0, *, stated: bool = False) -> "Band":
        """The band of ``values``, one for each seed: that of the next value, 99 times in 100.

        Equal values are expected again, to one ``unit``. With ``stated`` a single value has the stated tolerance, if
        it is no count.
        """
        if any(math.isnan(v) for v in values):
            return cls(math.nan, 0.0, exact=True)
        if stated and len(values) == 1 and not values[0].is_integer():
            return cls(values[0], max(unit, STATED * abs(values[0])))
        if min(values) == max(values):
            return cls(values[0], max(unit, 1e-6 * abs(values[0])) * 1.0001, exact=True)
        n = len(values)
        return cls(fmean(values), QUANTILES[min(n, 10)] * stdev(values) * math.sqrt(1 + 1 / n) + unit)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Values by name, a list with one for each run, and how they came about."""

    chapter: str
    circumstances: dict[str, str]
    command: str
    date: str
    values: dict[str, list[float]]

    @property
    def once(self) -> bool:
        """Whether nothing is known of other seeds."""
        return all(len(values) == 1 for values in self.values.values())

    def only(self, names: Iterable[str]) -> "Reference":
        """With those of ``names`` that it has, and no other value."""
        wanted = set(names)
        return replace(self, values={name: found for name, found in self.values.items() if name in wanted})

    def __str__(self) -> str:
        where = ", ".join(self.circumstances[k] for k in ("device", "dtype") if k in self.circumstances)
        torch = f", torch {self.circumstances['torch']}" if "torch" in self.circumstances else ""
        return f"recorded {self.date} on {where}{torch}, by `{self.command}`"


def load(chapter: str, *, scale: str = "quick") -> Reference | None:
    """The reference of ``chapter`` ("2-concepts/attention") at ``scale``; None where there is none.

    Raises DamagedReference for a file that is damaged.
    """
    sets = _read(chapter)
    return sets.get(scale)


def save(reference: Reference, *, scale: str) -> Path:
    """Keep ``reference`` beside those of other scales; the file appears whole or not at all."""
    path = _path(reference.chapter)
    sets = {name: _compact(kept) for name, kept in _read(reference.chapter).items()} | {scale: _compact(reference)}
    return write_file(path, json.dumps(dict(sorted(sets.items())), indent=1, ensure_ascii=False) + "\n")


def known() -> list[str]:
    """The chapters that have a reference."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.json"))


def nearest(chapter: str, yours: Circumstances, *, among: Iterable[str]) -> Reference | None:
    """Of the references and recorded runs of ``chapter`` that have a number ``among`` those named, the one whose
    circumstances differ least from ``yours``.

    Raises DamagedReference for a file that is damaged.
    """
    names = set(among)
    there = [r for r in (*_read(chapter).values(), *_recorded(chapter)) if names & set(r.values)]
    return min(there, key=lambda r: _distance(yours, r), default=None)


def _distance(yours: Circumstances, reference: Reference) -> tuple[int, int, int]:
    """Small where little differs, above all of what may change anything, and much is known to be the same."""
    theirs = reference.circumstances
    found = differences(yours, theirs)
    agreed = sum(name in theirs and theirs[name] == words for name, words in yours.items())
    return sum(d.cause.any_amount for d in found), len(found), -agreed


def _recorded(chapter: str) -> Iterator[Reference]:
    """The chapter's recorded runs as references: one run each, so their bands are the stated ones."""
    try:
        runs = made_by(chapter)
    except (ValueError, TypeError) as error:
        raise DamagedReference(f"a recorded run of the book is damaged ({error}): install llmbook again") from None
    for run in runs:
        yield Reference(
            chapter=chapter,
            circumstances=_told(run),
            command=run.command,
            date=run.date,
            values={name: [quantity.value] for name, quantity in named(run.data).items()},
        )


def _told(run: Recorded) -> dict[str, str]:
    """A recorded run's device is the name of a processor, of a GPU, or "cuda, bfloat16: reason"."""
    device, _, rest = run.device.partition(", ")
    told = {"torch": run.versions["torch"], "python": run.versions["python"], "llmbook": run.versions["llmbook"]}
    if "cores" in run.device:
        told |= {"device": "CPU", "machine": run.device}
    else:
        told |= {"device": rest.partition(": ")[2].partition(";")[0] or device}
    if "SET=" not in run.command:
        told["scale"] = "full"
    return told | settings(run.data)


def _path(chapter: str) -> Path:
    return FOLDER / f"{chapter}.json"


def _read(chapter: str) -> dict[str, Reference]:
    path = _path(chapter)
    if not path.is_file():
        return {}
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))
        return {scale: _whole(chapter, kept) for scale, kept in sets.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamagedReference(
            f"the recorded numbers of {chapter} are damaged ({reason}): install llmbook again, or in a clone restore "
            f"{path.name} by `git checkout`, or make it by `make reference CHAPTER={chapter}`"
        ) from None


def _whole(chapter: str, kept: Mapping[str, Any]) -> Reference:
    values = {}
    for name, value in kept["values"].items():
        values[name] = [float(v) for v in (value if isinstance(value, list) else [value] * kept["runs"])]
    fields = {name: kept[name] for name in ("circumstances", "command", "date")}
    return Reference(chapter=chapter, values=values, **fields)


def _compact(reference: Reference) -> dict[str, Any]:
    """As it is written: a value that all runs gave is written once, whole numbers without their point."""
    values = {
        name: _plain(found[0]) if len({*map(repr, found)}) == 1 else [_plain(v) for v in found]
        for name, found in reference.values.items()
    }
    runs = max(map(len, reference.values.values()), default=0)
    return {**asdict(reference), "runs": runs, "values": values}


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 2**53 else round(value, 10)
