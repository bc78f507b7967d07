"""Yours beside ours: a verdict for every number of a run.

The choice: a cause is named only if it is a difference between the two runs, and a number that differs without one is
called unexplained and asked to be reported. A difference that moves numbers as another seed does (a device, a
precision) explains a deviation of about that size and no larger one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llmbook.results.circumstances import Circumstances, Difference, differences, rounding
from llmbook.results.quantities import Quantity
from llmbook.results.reference import Band, Reference

IN, EXPLAINED, UNEXPLAINED = "in the band", "outside, with candidates", "unexplained"


@dataclass(frozen=True)
class Row:
    """One number: yours (None where your run lacks it), our band, and what follows."""

    name: str
    yours: float | None
    band: Band
    verdict: str
    words: str

    def cells(self) -> list[str]:
        yours = "missing" if self.yours is None else _number(self.yours, self.band)
        half = "exactly" if self.band.exact else f"± {_number(self.band.half, self.band)}"
        return [self.name, yours, _number(self.band.centre, self.band), half, self.words]


@dataclass(frozen=True)
class Comparison:
    """All numbers of one chapter beside ours."""

    chapter: str
    reference: Reference
    found: list[Difference]
    rows: list[Row]
    unknown: int  # numbers of yours that ours lack

    @property
    def outside(self) -> list[Row]:
        return [row for row in self.rows if row.verdict != IN]

    @property
    def unexplained(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == UNEXPLAINED]

    def summary(self) -> str:
        """One line: how many numbers are in the band, and what explains the others."""
        if not self.rows:
            return f"{self.chapter}: no number of yours is among those recorded"
        line = f"{self.chapter}: {len(self.rows) - len(self.outside)} of {len(self.rows)} numbers in the band"
        explained = len(self.outside) - len(self.unexplained)
        parts = [f"{explained} outside ({'; '.join(map(str, self.found))})"] if explained else []
        parts += [f"{len(self.unexplained)} unexplained"] if self.unexplained else []
        parts += [f"{self.unknown} not recorded"] if self.unknown else []
        return ", ".join([line, *parts])


def compare(
    chapter: str, yours: Mapping[str, Quantity], circumstances: Circumstances, reference: Reference
) -> Comparison:
    """Lay ``yours`` beside ``reference``, number by number, in the reference's order."""
    found = differences(circumstances, reference.circumstances)
    rows = [_row(name, yours.get(name), values, found, reference) for name, values in reference.values.items()]
    return Comparison(chapter, reference, found, rows, len(set(yours) - set(reference.values)))


def table(rows: list[Row]) -> str:
    """Rows as Markdown that can be read as it is, and pasted into an issue."""
    head = ["number", "yours", "ours", "band", "verdict"]
    cells = [head, *([cell.replace("|", "\\|") for cell in row.cells()] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(head))]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def notes(comparison: Comparison, circumstances: Circumstances) -> list[str]:
    """Lines below the table: the candidates, what to do about the unexplained, and where the numbers come from."""
    lines = []
    if len(comparison.found) > 1 and comparison.outside:
        lines.append(f"candidates, the usually largest first: {'; '.join(map(str, comparison.found))}")
    if comparison.unexplained:
        lines.append("unexplained: nothing known accounts for it; please report it, with this table")
    order = ("scale", "device", "dtype", "machine", "threads", "torch", "numpy", "python", "llmbook", "commit")
    yours = ", ".join(
        circumstances[k] if k in ("device", "dtype", "machine") else f"{k} {circumstances[k]}"
        for k in order
        if k in circumstances
    )
    return [*lines, f"yours: {yours or 'circumstances unknown'}", f"ours: {comparison.reference}"]


def _row(name: str, yours: Quantity | None, values: list[float], found: list[Difference], reference: Reference) -> Row:
    unit = yours.unit if yours else 0.0
    band = Band.of(values, unit, stated=reference.once)
    if yours is None:
        explained = any(d.cause.any_amount for d in found)
        words = f"missing{_because(found)}" if explained else "missing, unexplained"
        return Row(name, None, band, EXPLAINED if explained else UNEXPLAINED, words)
    value, centre = yours.value, band.centre
    if (math.isnan(value) and math.isnan(centre)) or value == centre or abs(value - centre) <= band.half:
        return Row(name, value, band, IN, IN)
    return Row(
        name, value, band, *_verdict(value, band, found, counted=band.exact and centre.is_integer() and not unit)
    )


def _verdict(value: float, band: Band, found: list[Difference], *, counted: bool) -> tuple[str, str]:
    """For a number outside its band: is it explained, and in which words. ``counted``: no rounding can move it."""
    if not found:
        return UNEXPLAINED, "outside, unexplained"
    if any(d.cause.any_amount for d in found):
        return EXPLAINED, f"outside{_because(found)}"
    if counted:
        return UNEXPLAINED, f"outside, unexplained: no count moves with {_causes(found)}"
    expected = 2 * band.half + rounding(found) * abs(band.centre)
    if abs(value - band.centre) <= expected:
        return EXPLAINED, f"outside{_because(found)}: expected up to ± {_number(expected, band)}"
    return UNEXPLAINED, f"outside, unexplained: farther than the ± {_number(expected, band)} of {_causes(found)}"


def _because(found: list[Difference]) -> str:
    return f": {_causes(found)}"


def _causes(found: list[Difference]) -> str:
    """The one difference in words; several of them stand below the table."""
    return f"{len(found)} candidates, see below" if len(found) > 1 else str(found[0])


def _number(value: float, band: Band) -> str:
    """With two digits of the band's half-width, or as it is."""
    if math.isnan(value):
        return "NaN"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if band.half > 0 and not band.exact:
        places = min(6, max(0, 1 - math.floor(math.log10(band.half))))
        return f"{value:,.{places}f}"
    return f"{value:,.6g}"
