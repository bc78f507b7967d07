"""Files that are either the old ones or the new ones, never a half of one."""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> bool:
    """Write `data` through a temporary file beside `path`; return whether anything changed.

    An unchanged file keeps its modification time, which is what Sphinx decides by.
    """
    if path.exists() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
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
