"""Addresses of other sites, asked one by one with Sphinx's own link check; `make links` and a weekly workflow call it.

Links within the site and within the repository are tests, for they need no network.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from .book import Book, BookError
from .execute import LIBRARY
from .merge import assemble

PATIENCE = 5  # seconds for the one question whether there is a network


def check_links(book: Book) -> str:
    """Ask every address that a page of the book links to; return one line that says what came of it.

    Without a network nothing is asked, and that line says so. Raises BookError with every address that is dead.
    """
    host = urlsplit(book.address[0]).hostname
    if not _reachable(host):
        return f"{host} does not answer, so links to other sites were not checked. Those within the book were."
    out = book.build / "links"
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    options = ["--builder", "linkcheck", "-q", "--path-output", str(out)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")])}
    command = [jupyter_book, "build", str(assemble(book, {})), *options]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    reports = list(out.rglob("output.json"))
    if not reports:
        raise BookError(f"the links could not be checked:\n{done.stdout[-2000:]}")
    return judge(reports[0].read_text(encoding="utf-8"))


def judge(report: str) -> str:
    """What Sphinx found, a JSON object a line, in one line. Raises BookError with every address that is dead."""
    found = [json.loads(line) for line in report.splitlines() if line.strip()]
    dead = [entry for entry in found if entry["status"] == "broken"]
    if dead:
        told = [f"{entry['filename']}:{entry['lineno']}: {entry['uri']} ({entry['info'].strip()})" for entry in dead]
        raise BookError("\n".join([*told, f"{len(dead)} dead links: mend or replace them."]))
    asked = sum(entry["status"] in ("working", "redirected") for entry in found)
    return f"{asked} links to other sites work."


def _reachable(host: str) -> bool:
    try:
        socket.create_connection((host, 443), PATIENCE).close()
    except OSError:
        return False
    return True
