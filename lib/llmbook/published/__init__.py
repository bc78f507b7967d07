"""The book's own models: one file each, with what a reader should know of it, and the command that made it.

``NAME.json`` is a recipe of ``llmbook.training``. ``python -m publishing model NAME`` trains by it and leaves
``NAME.bin``, weights in half precision behind configuration and tokenizer, which the playground fetches and
``load_pretrained(NAME)`` opens, and an entry in ``manifest.json``: corpus and licence, sizes, loss, samples, command,
commit, date. Nothing in the manifest is written by hand.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
MANIFEST = FOLDER / "manifest.json"


def manifest() -> dict[str, dict[str, Any]]:
    """What is known of every published model, by name."""
    return json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.exists() else {}


def recipe_path(name: str) -> Path:
    """The recipe of a model of the book, published or not. Raises ValueError for an unknown name."""
    known = sorted(path.stem for path in FOLDER.glob("*.json") if path != MANIFEST)
    if name not in known:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(known)}")
    return FOLDER / f"{name}.json"


def weights_path(name: str) -> Path:
    """The file of a published model. Raises ValueError for an unknown name."""
    if name not in manifest():
        raise ValueError(f"no model {name!r} is published; there are {', '.join(manifest())}")
    return FOLDER / f"{name}.bin"
