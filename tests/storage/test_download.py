"""Downloads over a connection that breaks, lies or is refused."""

import hashlib
import os
import socket
import threading

import pytest

from llmbook.storage.download import DownloadError, download

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "file.txt"


def test_whole_file(server, target):
    """Catches a .part left beside the finished file."""
    server.content = CONTENT
    assert download(server.url, target, sha256=SHA256) == target
    assert target.read_bytes() == CONTENT
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_broken_connection_is_resumed_where_it_stopped(server, target):
    """Catches starting again from zero, and appending the whole file to the part."""
    server.content, server.breaks = CONTENT, [100_000, 50_000]
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_resumes_what_an_earlier_process_left(server, target):
    """Catches forgetting the .part of a killed run."""
    server.content = CONTENT
    target.parent.mkdir()
    target.with_name("file.txt.part").write_bytes(CONTENT[:123])
    download(server.url, target, sha256=SHA256)
    assert server.ranges == ["bytes=123-"]
    assert target.read_bytes() == CONTENT


def test_part_that_is_already_whole(server, target):
    """Catches failing on status 416 when only the renaming was missing."""
    server.content = CONTENT
    target.parent.mkdir()
    target.with_name("file.txt.part").write_bytes(CONTENT)
    assert download(server.url, target, sha256=SHA256).read_bytes() == CONTENT


def test_part_that_is_too_long(server, target):
    """Catches asking for ever for bytes beyond the end."""
    server.content = CONTENT
    target.parent.mkdir()
    target.with_name("file.txt.part").write_bytes(CONTENT + b"more")
    assert download(server.url, target, sha256=SHA256).read_bytes() == CONTENT


def test_server_without_ranges(server, target):
    """Catches appending a full answer (200) to a part, which doubles its beginning."""
    server.content, server.breaks, server.supports_range = CONTENT, [1000], False
    assert download(server.url, target, sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]  # and not a third time, to repair a doubled beginning


def test_always_truncated(server, target):
    """Catches taking a short file for the whole when there is no hash to tell."""
    server.content, server.breaks = CONTENT, [10] * 20
    with pytest.raises(DownloadError, match=r"ended after 40 of 300,000 bytes"):
        download(server.url, target)
    assert not target.exists()


def test_damaged_part_is_thrown_away_and_fetched_once_more(server, target):
    """Catches resuming a damaged part for ever."""
    server.content = CONTENT
    target.parent.mkdir()
    target.with_name("file.txt.part").write_bytes(b"x" * 500)
    assert download(server.url, target, sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == ["bytes=500-", None]


def test_changed_file_is_refused(server, target):
    """Catches handing over a file that is not the one named, or fetching it without end."""
    server.content = b"something else"
    with pytest.raises(DownloadError, match=r"SHA-256 is .* twice"):
        download(server.url, target, sha256=SHA256)
    assert list(target.parent.iterdir()) == []
    assert len(server.ranges) == 2


def test_refusals_say_why(server, target):
    """Catches a traceback of urllib for a missing page or an unreachable host."""
    server.status = 404
    with pytest.raises(DownloadError, match="404 Not Found"):
        download(server.url, target)
    with pytest.raises(DownloadError, match="refused"):
        download("http://127.0.0.1:1/file.txt", target)


@pytest.fixture
def answering():
    """answering(bytes) is the address of a server that sends them to every client and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = b""

        def serve():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(65536)
                    client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)

        def start(content):
            nonlocal answer
            answer = content
            thread.start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}/file.txt"

        yield start
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_a_server_that_speaks_no_http_is_a_download_error(answering, target, answer):
    """IncompleteRead, BadStatusLine and their like, which are no OSError, seen by the reader of a chapter."""
    with pytest.raises(DownloadError, match=r"\S"):
        download(answering(answer), target, sha256=SHA256)
    assert not target.exists()
