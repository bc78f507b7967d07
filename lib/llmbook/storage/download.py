"""One file over HTTP(S), resumed where it stopped and checked before anyone sees it.

The bytes go to ``NAME.part``; a second attempt asks for the rest with ``Range``. Only a complete file with the
right SHA-256 is renamed to ``NAME``.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

CHUNK = 1 << 18
ATTEMPTS = 4
TIMEOUT_SECONDS = 30
SHOW_PROGRESS_FROM = 5_000_000


class DownloadError(RuntimeError):
    """The file could not be downloaded; the message says why."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: Path, *, sha256: str | None = None) -> Path:
    """Fetch ``url`` to ``path`` and return ``path``.

    A connection that breaks is resumed, up to four times in all. A complete file with the wrong hash is thrown
    away and fetched once more from the start. Without ``sha256`` only the announced length is checked.
    Raises DownloadError, leaving nothing at ``path``; a partial file stays for the next call to resume.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    found = ""
    for _ in range(2):
        _complete(url, part)
        found = sha256_of(part)
        if sha256 in (None, found):
            os.replace(part, path)
            return path
        part.unlink()
    raise DownloadError(f"its SHA-256 is {found[:12]}…, not {str(sha256)[:12]}…, twice: the file has changed")


def _complete(url: str, part: Path) -> None:
    """Bring ``part`` to the full length, resuming after every break."""
    reason = ""
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        # Some hosts refuse Python's own name; any honest one will do.
        request = urllib.request.Request(url, headers={"User-Agent": "llmbook/0.1"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                resumed = response.status == 206
                length = response.length  # None if the server did not say it, or no number
                total = None if length is None else (have if resumed else 0) + length
                got = _append(response, part, resumed, have if resumed else 0, total)
            if total is None or got == total:
                return
            reason = f"the connection ended after {got:,} of {total:,} bytes"
        except urllib.error.HTTPError as error:
            if error.code != 416:  # 416: nothing beyond what we have, so the part is complete or too long
                raise DownloadError(f"the server answers {error.code} {error.reason}") from None
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            reason = "the partial file was longer than the source"
        except (OSError, http.client.HTTPException) as error:  # a broken body, an answer that is no HTTP
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            if have == 0 and not part.exists():
                break  # no contact at all: trying again at once will not help
    raise DownloadError(reason)


def _append(response, part: Path, resumed: bool, have: int, total: int | None) -> int:
    """Write the body to ``part``, after what it holds if the server resumed. Return its length."""
    quiet = (total or 0) < SHOW_PROGRESS_FROM
    with (
        open(part, "ab" if resumed else "wb") as file,
        tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=quiet,
        ) as bar,
    ):
        while block := response.read(CHUNK):
            file.write(block)
            have += len(block)
            bar.update(len(block))
    return have
