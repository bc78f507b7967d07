"""A package made on the spot, and a web server that can misbehave: no test of sources needs the network."""

import base64
import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmbook.storage import folders

TOY_FILES = {"toytexts/a.txt": b"first text\n", "toytexts/deep/b.txt": "第二\n".encode(), "toytexts/code.py": b"1/0"}


def write_wheel(folder, files=TOY_FILES, name="toytexts-1.0-py3-none-any.whl"):
    """A wheel that pip accepts. Importing it would raise, so a test that passes did not import it."""
    info = "toytexts-1.0.dist-info"
    files = {
        **files,
        "toytexts/__init__.py": b"raise RuntimeError('imported')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toytexts\nVersion: 1.0\nRequires-Dist: nowhere-found\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def line(path, data):
        code = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        return f"{path},sha256={code},{len(data)}\n"

    files[f"{info}/RECORD"] = ("".join(line(p, d) for p, d in files.items()) + f"{info}/RECORD,,\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
    return folder / name


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no data folder."""
    monkeypatch.setenv("LLMBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLMBOOK_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder in the place of the package index: pip sees what is put there and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def no_stand_in(monkeypatch):
    """Forget temporary folders made for other caches."""
    monkeypatch.setattr(folders, "_stand_ins", {})


class Server:
    """Serves ``content`` at any path. ``breaks``: how many bytes each answer in turn stops after (None: all)."""

    def __init__(self):
        self.content, self.breaks, self.ranges, self.supports_range, self.status = b"", [], [], True, None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if owner.status:
                    self.send_error(owner.status)
                    return
                asked = self.headers.get("Range")
                owner.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and owner.supports_range else 0
                if asked and owner.supports_range and start >= len(owner.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(owner.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = owner.content[start:]
                self.send_response(206 if asked and owner.supports_range else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: owner.breaks.pop(0)] if owner.breaks else body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/file.txt"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()
