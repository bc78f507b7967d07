"""Where files are kept on this machine: the reader's own folder, the cache, and what stands in for it."""

import os
import sys
import tempfile
import warnings
from pathlib import Path


def cache_dir() -> Path:
    """The folder of fetched files: ``LLMBOOK_CACHE``, else ``llmbook`` in the platform's cache folder."""
    if chosen := os.environ.get("LLMBOOK_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "llmbook"


def writable_cache() -> Path:
    """:func:`cache_dir`, or a temporary folder (with one line of warning) where that cannot be written."""
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if str(folder) not in _stand_ins:  # one folder and one warning a process; gone when the process ends
            warnings.warn(
                f"cannot write the cache {folder} ({error.strerror or error}); downloads are kept for this session "
                "only. Set LLMBOOK_CACHE to a writable folder to keep them.",
                stacklevel=3,
            )
            _stand_ins[str(folder)] = tempfile.TemporaryDirectory(prefix="llmbook-")
        return Path(_stand_ins[str(folder)].name)


_stand_ins: dict[str, tempfile.TemporaryDirectory] = {}


def readable_folders() -> list[tuple[str, Path | None]]:
    """(what to call it, the folder or None if unset): data folder, cache, and the cache's stand-in if any."""
    data = os.environ.get("LLMBOOK_DATA")
    folders = [
        ("LLMBOOK_DATA", Path(data).expanduser() if data else None),
        ("cache", cache_dir()),
    ]
    if stand_in := _stand_ins.get(str(cache_dir())):
        folders.append(("temporary cache", Path(stand_in.name)))
    return folders
