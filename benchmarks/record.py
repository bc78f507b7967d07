"""Results as JSON files that say where they come from: machine, versions, command, commit, day."""

import json
import os
import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "transformers", "x-transformers", "accelerate", "tokenizers", "llama-cpp-python", "llmbook")


def origin() -> dict[str, Any]:
    """What is needed to judge and repeat a measurement made now."""
    return {
        "device": _processor(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "commit": _commit(),
        "date": date.today().isoformat(),
    }


def save(name: str, data: dict[str, Any]) -> None:
    """Keep ``data`` as the result ``name``; the file appears whole or not at all."""
    FOLDER.mkdir(exist_ok=True)
    part = FOLDER / f"{name}.part"
    part.write_text(json.dumps({**origin(), **data}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(FOLDER / f"{name}.json")


def load(name: str) -> dict[str, Any] | None:
    """The result ``name``, or None if it has not been measured."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    name = names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    ask = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
