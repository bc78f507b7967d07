"""From samples to what is printed: medians, spreads, and ratios paired within a round."""

from collections.abc import Sequence
from statistics import median
from typing import Any


def paired_ratios(rates: Sequence[float], base: Sequence[float]) -> list[float]:
    """rate / base's rate in the same round. Raises ValueError if the rounds are not the same number."""
    if len(rates) != len(base):
        raise ValueError(f"{len(rates)} rounds cannot be paired with {len(base)}")
    return [ours / theirs for ours, theirs in zip(rates, base, strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def speeds(samples: dict[str, list[dict]], *, base: str | None, clock: str) -> list[dict[str, Any]]:
    """A row for each contender, fastest first: its rate (work per second of ``clock``, "seconds" or "cpu_seconds"),
    its ratio to ``base``, and how many cores others used meanwhile."""
    rates = {name: [sample["work"] / sample[clock] for sample in rows] for name, rows in samples.items()}
    rows = [
        {
            "name": name,
            "rate": spread(rates[name]),
            "ratio": spread(paired_ratios(rates[name], rates[base])) if base in rates else None,
            "foreign": median(sample["foreign"] for sample in samples[name]),
            "note": samples[name][0].get("note"),
        }
        for name in samples
    ]
    return sorted(rows, key=lambda row: -row["rate"]["median"])


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned right. Raises ValueError for a ragged row."""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header {len(header)}: {row}")
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def show(value: dict[str, float] | None, digits: int) -> str:
    """``1.42 (1.39–1.45)``: the median and the range; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value['median']:,.{digits}f} ({value['low']:,.{digits}f}–{value['high']:,.{digits}f})"
