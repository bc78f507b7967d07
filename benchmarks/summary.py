"""From samples to what is printed: medians, ranges, and ratios within pairs."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, and the range the middle half lies in (of fewer than four values, all)."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) >= 4 else (min(values), 0, max(values))
    return {"median": median(values), "low": low, "high": high}


def speeds(samples: dict[str, list[tuple[dict, dict]]], *, clock: str) -> list[dict[str, Any]]:
    """A row for each contender, fastest first: its rate (work per second of ``clock``, "seconds" or "cpu_seconds"),
    its ratio to the base measured right before it, and how many cores others used meanwhile."""
    rows = [
        {
            "name": name,
            "rate": spread([_rate(own, clock) for _, own in pairs]),
            "ratio": spread([_rate(own, clock) / _rate(base, clock) for base, own in pairs]),
            "foreign": median(own["foreign"] for _, own in pairs),
            "note": pairs[0][1].get("note"),
        }
        for name, pairs in samples.items()
    ]
    return sorted(rows, key=lambda row: -row["ratio"]["median"])


def _rate(sample: dict, clock: str) -> float:
    return sample["work"] / sample[clock]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned right. Raises ValueError for a ragged row."""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header {len(header)}: {row}")
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def show(value: dict[str, float], digits: int) -> str:
    """``1.42 (1.39–1.45)``: the median and the range; the median alone if all values are one."""
    middle, low, high = (f"{value[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return middle if value["low"] == value["high"] else f"{middle} ({low}–{high})"
