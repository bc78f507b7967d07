"""The README's table, made from the recorded results between two markers."""

from collections import Counter
from pathlib import Path

from benchmarks import gpu, quality, record
from benchmarks.contenders import SPEED
from benchmarks.summary import markdown, show
from llmbook.storage import write_file

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
README = record.ROOT / "README.md"


def rewrite(path: Path = README) -> None:
    """Put the tables between the markers of ``path``. Raises ValueError if they are not there, in this order."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path.name} has no {BEGIN} … {END} to write between")
    write_file(path, f"{before}{BEGIN}\n{sections()}\n{END}{after}")


def sections() -> str:
    """Every table there is a result for."""
    parts = []
    speeds = {size: result for size in ("small", "larger") if (result := record.load(f"train-{size}"))}
    if speeds:
        rows = [[name, *(cell for r in speeds.values() for cell in _cells(r, name))] for name in SPEED]
        rows = [row for row in rows if any(cell != "–" for cell in row[1:])]
        failures = {name: why for r in speeds.values() for name, why in r["failures"].items()}
        rows += [[name, why, *["–"] * (2 * len(speeds) - 1)] for name, why in failures.items()]
        first = next(iter(speeds.values()))
        header = [f"training, × {first['base']}", *(h for size in speeds for h in (size, "tokens/s"))]
        sizes = "; ".join(f"{size}: {result['about']}" for size, result in speeds.items())
        chosen = {
            f"{row['name']}, {size}: {row['note'].split('; ')[-1]}"
            for size, result in speeds.items()
            for row in result["rows"]
            if "as chosen" in row["name"]
        }
        parts += [
            markdown(header, rows),
            f"{sizes}. {_origin(first)}",
            "\n".join(f"- {line}" for line in sorted(chosen)),
        ]
    if result := record.load("quality"):
        seeds = Counter((r["name"], r["steps"]) for r in result["runs"]).values()
        how = f"{result['about']}, {result['steps']:,} steps, {min(seeds)} to {max(seeds)} seeds (a value alone is one)"
        parts += [*quality.tables(result), f"{how}. {_origin(result)}"]
    if result := record.load("decode"):
        rows = [[row["name"], *_cells(result, row["name"]), row["note"] or "–"] for row in result["rows"]]
        rows += [[name, reason, "–", "–"] for name, reason in result["failures"].items()]
        measured = f"bits per byte of {result['text']}" if result["text"] else "bits per byte"
        header = [f"decoding, × {result['base']}", "ratio", "tokens/s", measured]
        parts += [markdown(header, rows), _about(result)]
    tokenizers = {task: r for task in ("train", "encode") if (r := record.load(f"tokenizer-{task}"))}
    if tokenizers:
        rows = [
            [f"{task}: {row['name']}", *_cells(result, row["name"])]
            for task, result in tokenizers.items()
            for row in result["rows"]
        ]
        result = next(iter(tokenizers.values()))
        parts += [markdown([f"tokenizer on {result['text']}, × `tokenizers`", "ratio", "MB/s"], rows), _about(result)]
    if result := record.load("gpu"):
        parts += [gpu.table(result), f"{result['device']}. {_origin(result)}"]
    return "\n\n".join(parts)


def _cells(result: dict, name: str) -> list[str]:
    """A contender's ratio and rate; the median and the range of the ratio over the rounds."""
    row = next((row for row in result["rows"] if row["name"] == name), None)
    if row is None:
        return ["–", "–"]
    return [show(row["ratio"], 2), f"{row['rate']['median']:,.{2 if result['unit'] == 'MB/s' else 0}f}"]


def _about(result: dict) -> str:
    return f"{result['about'][0].upper()}{result['about'][1:]}. {_origin(result)}"


def _origin(result: dict) -> str:
    settings = result.get("settings", {})
    rounds = f", {settings['threads']} threads, {settings['n_rounds']} interleaved rounds" if settings else ""
    noise = max((row["foreign"] for row in result.get("rows", [])), default=0.0)
    noisy = f"; others used {noise:.2f} cores meanwhile at most (median of a row)" if settings else ""
    return f"{result['device']}, torch {result['versions']['torch']}, {result['date']}{rounds}{noisy}."
