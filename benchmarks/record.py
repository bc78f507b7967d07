"""Results as JSON files that say where they come from: machine, versions, command, commit, day."""

import json
import platform
import sys
from datetime import date
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from llmbook.results import commit, processor

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"
PACKAGES = {"torch", "transformers", "x-transformers", "accelerate", "tokenizers", "llama_cpp_python", "llmbook"}


def save(name: str, data: dict[str, Any]) -> None:
    """Keep ``data`` as the result ``name`` with its origin; the file appears whole or not at all."""
    installed = {d.name: d.version for d in distributions() if d.name in PACKAGES}
    origin = {
        "device": processor(),
        "versions": {"python": platform.python_version(), **installed},
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "commit": commit(),
        "date": date.today().isoformat(),
    }
    FOLDER.mkdir(exist_ok=True)
    part = FOLDER / f"{name}.part"
    part.write_text(json.dumps({**origin, **data}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(FOLDER / f"{name}.json")


def load(name: str) -> dict[str, Any] | None:
    """The result ``name``, or None if it has not been measured."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
