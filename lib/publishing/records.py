"""Records of what passed, each addressed by everything it depends on, so that it may come from anywhere.

A record is the executed notebook; its metadata hold its inputs by name and digest, what the run was seen to use
besides, and a digest of the whole. One is taken only if all of that fits what is here now: a record that is cut short,
changed, or of other inputs is told and the notebook runs again. A forged one whose digest was made to fit is found by
what every run does, the comparison of its checked outputs with the committed ones, and by the weekly run, which takes
no record, compares what it computed with the one it finds, and puts its own in the place.

They lie in `_build/executed` of the checkout and in a folder of the user's that all clones share:
`LLMBOOK_RECORDS=FOLDER` names another, `LLMBOOK_RECORDS=none` takes and leaves nothing there.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from llmbook.storage import write_file

from .files import digest
from .inputs import differing

KEPT = 3  # versions of one notebook: enough to go back and forth between two branches
ENTRY = "record"  # inside the metadata's own entry, see worker.NOTE
NOTE = "llmbook"
LIBRARY = Path("lib") / "llmbook"


def shared() -> Path | None:
    """The folder of the user's; None where none is to be used."""
    chosen = os.environ.get("LLMBOOK_RECORDS")
    if chosen is not None and chosen.strip().lower() in {"", "none", "off", "0"}:
        return None
    return Path(chosen) if chosen else platformdirs.user_cache_path("llmbook") / "records"


def seal(path: Path, inputs: dict[str, str], root: Path, seen: dict[str, list[str]]) -> None:
    """Write into the executed notebook at `path` what it depended on, and a digest over everything."""
    content = json.loads(path.read_text(encoding="utf-8"))
    missed = [file for file in seen.get("opened", []) if f"file {(LIBRARY / file).as_posix()}" not in inputs]
    missed += [file for file in seen.get("called", []) if f"module {_module(file)}" not in inputs]
    missed = [name for name in missed if (root / LIBRARY / name).is_file()]
    besides = {(LIBRARY / name).as_posix(): _digest(root / LIBRARY / name) for name in sorted(set(missed))}
    record = {"inputs": inputs, "besides": besides}
    content["metadata"].setdefault(NOTE, {})[ENTRY] = record
    record["digest"] = _whole(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def fault(path: Path, inputs: dict[str, str], root: Path) -> str:
    """Why the record at `path` is not one of this notebook as it is now; empty if it is."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record = content["metadata"][NOTE][ENTRY]
        told, besides, given = record["inputs"], record["besides"], record["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return "it is cut short, or no record"
    if given != _whole(content):
        return "its content is not what was recorded"
    if told != inputs:
        return f"it is of another {differing(told, inputs)[0]}"
    for name, was in besides.items():
        if not (root / name).is_file() or _digest(root / name) != was:
            return f"{name}, which it used, has changed"
    return ""


def fetch(name: str, wanted: Path) -> bool:
    """Bring the record from the user's folder to `wanted`; False where there is none."""
    folder = shared()
    there = folder / name / wanted.name if folder else None
    if not there or not there.is_file():
        return False
    _copy(there, wanted)
    with contextlib.suppress(OSError):
        os.utime(there)
    return True


def keep(name: str, made: Path) -> None:
    """Leave a copy in the user's folder; a disk that is full or read-only is no reason to fail."""
    if folder := shared():
        with contextlib.suppress(OSError):
            _copy(made, folder / name / made.name)
            prune(folder / name)


def prune(folder: Path) -> None:
    """Keep the newest versions of one notebook, and remove what a killed process left."""
    versions = sorted(folder.glob("*.*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in [path for path in versions if not path.name.startswith(".")][KEPT:]:
        old.unlink(missing_ok=True)


def put_away(path: Path, reason: str, name: str, say: Callable[[str], None]) -> None:
    """Say why a record is not taken, and remove it here and in the user's folder."""
    say(f"the record of {name} is not taken: {reason}; it is run again")
    path.unlink(missing_ok=True)
    if folder := shared():
        (folder / name / path.name).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    write_file(target, source.read_bytes())


def _whole(content: dict) -> str:
    """A digest of the notebook without the one it carries."""
    record = content["metadata"][NOTE][ENTRY]
    bare = content | {"metadata": content["metadata"] | {NOTE: content["metadata"][NOTE] | {ENTRY: _bare(record)}}}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def _bare(record: dict) -> dict:
    return {name: value for name, value in record.items() if name != "digest"}


def _digest(path: Path) -> str:
    return digest(path.parent, [path])


def _module(file: str) -> str:
    parts = ["llmbook", *Path(file).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
