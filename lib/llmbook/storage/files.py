"""Atomic writes: a file is the old one or the new one, never half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, which takes the name ``path`` at the end, when its bytes are on the disk.

    Missing folders are made. An error inside, or a crash at any moment, leaves what was there before; after a kill -9
    half a file stays beside it, under a name that ``sweep_unfinished`` knows.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # before the name points to them
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write ``content`` (text as UTF-8, with its own line endings) through :func:`whole_file`; returns the path."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def sweep_unfinished(folder: str | Path, suffix: str) -> None:
    """Delete what ``whole_file`` was writing in ``folder``, under names ending in ``suffix``, in processes now dead.

    Only where no other machine writes: the process of a file is looked for on this one.
    """
    for temporary in Path(folder).glob(f".*{suffix}.*.tmp"):
        pid = temporary.name.split(".")[-2]
        if pid.isdecimal() and not _alive(int(pid)):
            temporary.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    """Whether there is a process of this number; on Windows, where asking with a signal would end it, always True."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)  # no signal, only the question
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's, or no number of a process at all
        pass
    return True
