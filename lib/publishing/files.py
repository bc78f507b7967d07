"""Files of the build: written only where something changed, and one hash over many."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from llmbook.storage import write_file


def write_bytes(path: Path, data: bytes) -> bool:
    """Write `data` to `path`, whole or not at all; return whether anything changed.

    An unchanged file keeps its modification time, which is what Sphinx decides by.
    """
    if path.exists() and path.read_bytes() == data:
        return False
    write_file(path, data)
    return True


def write_text(path: Path, text: str) -> bool:
    """`write_bytes` for UTF-8 text with the newlines it is given."""
    return write_bytes(path, text.encode())


def digest(root: Path, paths: Iterable[Path]) -> str:
    """One hash over the names (relative to `root`) and contents of `paths`; folders are walked."""
    total = hashlib.sha256()
    for path in sorted(_walk(paths)):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _walk(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
