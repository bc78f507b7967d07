"""Recorded runs: what a chapter measured when it had more time or a better machine than its reader has.

A recorded run is the chapter itself, executed at ``scale="full"`` with recording on; there is no second script that
could drift from what the reader sees. The chapter calls ``record`` at the end of an experiment (which does nothing
for a reader) and ``load`` where it shows the recorded numbers beside the live ones.
"""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmbook.storage import write_file

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The numbers of one run and what is needed to judge and repeat it."""

    name: str
    data: dict[str, Any]
    device: str
    versions: dict[str, str]
    command: str
    commit: str
    date: str

    def __str__(self) -> str:
        return f"recorded {self.date} on {self.device}, torch {self.versions['torch']},\nby `{self.command}`"


def record(name: str, data: dict[str, Any], *, device: str | None = None, command: str | None = None) -> None:
    """Keep ``data`` as the recorded run ``name`` if recording is on (``make record``); otherwise do nothing.

    A program that always records gives its ``command``; a chapter's is that of ``make record``.

    Raises:
        TypeError: ``data`` holds something JSON cannot; the old record stays as it was.
    """
    command = command or os.environ.get("LLMBOOK_RECORD")
    if not command:
        return
    run = Recorded(
        name=name,
        data=data,
        device=device or processor(),
        versions={"python": platform.python_version(), "torch": version("torch"), "llmbook": version("llmbook")},
        command=command,
        commit=commit(),
        date=date.today().isoformat(),
    )
    write_file(FOLDER / f"{name}.json", json.dumps(asdict(run), indent=1) + "\n")


def load(name: str) -> Recorded | None:
    """The recorded run ``name``, or None if there is none yet."""
    path = FOLDER / f"{name}.json"
    return Recorded(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def made_by(chapter: str) -> list[Recorded]:
    """The recorded runs that ``make record CHAPTER=chapter`` made, with whatever settings."""
    runs = [load(path.stem) for path in sorted(FOLDER.glob("*.json"))]
    return [run for run in runs if run is not None and f"CHAPTER={chapter}" in run.command.split()]


def processor() -> str:
    """The name of this machine's processor, as its maker gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if "model name" in line]
        if cpuinfo.exists()
        else []
    )
    name = names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def commit() -> str:
    """The commit the library stands at, with a mark if files have changed since."""
    try:
        ask = ["git", "-C", str(FOLDER), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
