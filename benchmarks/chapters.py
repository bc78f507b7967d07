"""How long `.ci/run` takes for a longer book: today's notebooks, multiplied in a copy of the checkout.

    python -m benchmarks chapters --count 60                 # a book of sixty notebooks, all stages
    python -m benchmarks chapters --count 13 26 --to 60      # two lengths, and the straight line through them

No record is taken or left. The copy has a history in which nothing has changed, so that of the live runs only the share
of the day is made, as after a change of one chapter.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.environment import ROOT

LINE = re.compile(r"^(?P<stage>[a-z][\w ,()-]*?) {2,}(?P<seconds>\d+)(?P<failed>  FAILED)?$")
BESIDE = re.compile(r"\]\((?!\.\./|https?:|#|/)([\w-]+\.ipynb)")  # a link to another chapter of the same part


def run(counts: list[int], *, to: int | None = None, command: str = ".ci/run") -> int:
    """Run `command` in a book of each length; print the seconds of its stages, and a straight line's for `to`."""
    tables, worst = {}, 0
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="book-") as folder:
            root = Path(folder).resolve() / "book"
            copy(ROOT, root)
            multiply(root, count)
            commit(root)
            print(f"— {command} with {count} notebooks", flush=True)
            code, tables[count] = timed(root, command)
            worst = worst or code
    print("\n" + "\n".join(report(tables, to)))
    return worst


def copy(source: Path, target: Path) -> None:
    """The checkout as git sees it, work in progress included."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=source, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def multiply(root: Path, count: int) -> None:
    """Copies of the chapters, in turn, under other names until the book has `count` notebooks.

    Raises ValueError if it has more already.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    listed = [f"{entry['file']}.ipynb" for part in toc["parts"] for entry in part["chapters"]]
    there = [name for name in listed if (root / name).is_file()]
    missing = count - len(there) - (root / f"{toc['root']}.ipynb").is_file()
    if missing < 0 or not there:
        raise ValueError(f"--count {count}: the book has {count - missing} notebooks already; give more")
    copies = []
    for number, name in zip(range(missing), itertools.cycle(there), strict=False):
        part, file = Path(name).parts[-2:]
        made = Path("chapters") / f"{part}-{number // len(there) + 2}" / file
        (root / made).parent.mkdir(exist_ok=True)
        text = (root / name).read_text(encoding="utf-8")
        (root / made).write_text(BESIDE.sub(rf"](../{part}/\1", text), encoding="utf-8")
        copies.append({"file": made.with_suffix("").as_posix()})
    if copies:
        toc["parts"].append({"caption": "Copies", "chapters": copies})
        (root / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def commit(root: Path) -> None:
    """Two commits, the second of which changes nothing."""
    git = ["git", "-c", "user.name=The book", "-c", "user.email=book@localhost"]
    first = [["init", "--quiet", "--initial-branch=main"], ["add", "--all"]]
    for command in [
        *first,
        ["commit", "--quiet", "-m", "A longer book"],
        ["commit", "-qm", "Nothing", "--allow-empty"],
    ]:
        subprocess.run([*git, *command], cwd=root, check=True, capture_output=True)


def timed(root: Path, command: str) -> tuple[int, dict[str, int]]:
    """Run `command` in the copy with this environment's packages, and read the table it ends with."""
    env = os.environ | {"LLMBOOK_RECORDS": "none", "VENV": sys.prefix, "CI": os.environ.get("CI", "true")}
    told = {}
    with subprocess.Popen(["bash", "-c", command], cwd=root, env=env, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if match := LINE.match(line.rstrip("\n")):
                told[match["stage"]] = int(match["seconds"])
    return process.returncode, told


def report(tables: dict[int, dict[str, int]], to: int | None) -> list[str]:
    """The seconds of every stage in a column for each length; where there are two, a last one for `to`."""
    first, last = min(tables), max(tables)
    guess = to is not None and first != last
    lines = [f"{'stage':28}" + "".join(f"{count:>8}" for count in tables) + (f"{f'→ {to}':>9}" if guess else "")]
    for stage in tables[last]:
        row = f"{stage:28}" + "".join(f"{table.get(stage, '–'):>8}" for table in tables.values())
        if guess and stage in tables[first]:
            each = (tables[last][stage] - tables[first][stage]) / (last - first)
            row += f"{tables[last][stage] + each * (to - last):>9.0f}"
        lines.append(row)
    return lines
