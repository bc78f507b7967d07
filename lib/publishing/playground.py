"""The playground's page: its mount point filled with the book's own models, and their files beside it; and the pages
that chapters make of the models they train.

In `playground.md` stands an element with what its author decides as JSON: `tries`, what to offer a reader. What is
known of a model is taken from its manifest, and a model that is not published yet is not offered.
"""

import base64
import functools
import gzip
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmbook import published
from llmbook.playground.page import SCRIPTS, STYLE, playground_html

from .book import BookError
from .files import write_bytes

MOUNT = re.compile(r'<div class="llm-playground"><script type="application/json">(.*?)</script></div>', re.S)
OWN = re.compile(r'<p>[^<]*</p><script type="text/plain" data-page="([^"/]+)">([\w+/=]*)</script>')
LIVE = re.compile(r'(<figure class="llm-live">.*?<script type="application/json">)(.*?)(</script></figure>)', re.S)
FOLDER = "playground"  # in `_static`, and in the library's assets


def present(body: str) -> bool:
    """Whether a page has the mount point."""
    return MOUNT.search(body) is not None


def scripts() -> list[str]:
    """The scripts of the page, in their order, below `_static`."""
    return [f"{FOLDER}/{name}" for name in SCRIPTS]


def titles() -> list[tuple[str, str]]:
    """The models of the page: their names, as its address takes them, and what they are called."""
    return [(name, entry["title"]) for name, entry in published.manifest().items()]


def style() -> str:
    return f"{FOLDER}/{STYLE}"


def live(body: str) -> str | None:
    """A page with lines that a model goes on with (`live_model`), each told of its model's file; None without one.

    Raises BookError for a model that is not published.
    """

    def told(match: re.Match) -> str:
        known, wanted = published.manifest(), json.loads(match[2])
        entry = known.get(wanted.pop("model", None))
        if entry is None:
            raise BookError(f"live_model: no such model is published; there are {', '.join(known) or 'none'}.")
        name = next(name for name in known if known[name] is entry)
        file = {"file": _address(entry), "bytes": len(packed(name))}  # beside the script
        return match[1] + json.dumps(wanted | file, ensure_ascii=False).replace("<", "\\u003c") + match[3]

    body, n = LIVE.subn(told, body)
    return body if n else None


def fill(body: str, address: Callable[[str], str]) -> str:
    """The page with its mount point filled; `address` turns a path below the site's root into a relative address.

    Raises BookError where the settings are no JSON, or name a model that there is no recipe for.
    """
    return MOUNT.sub(lambda match: _mount(settings(match[1], address)), body)


def settings(text: str, address: Callable[[str], str]) -> dict[str, Any]:
    """What playground.js is told, from the author's JSON and the manifest."""
    try:
        tries = json.loads(text).get("tries", [])
        for one in tries:
            published.recipe_path(one["model"])
    except ValueError as error:
        raise BookError(f"playground: {error}.") from None
    known = published.manifest()
    models = [
        {
            "id": name,
            "name": entry["title"],
            "lang": entry["language"],
            "prompt": entry["prompt"],
            "url": address(f"_static/{FOLDER}/") + _address(entry),
            "bytes": len(packed(name)),
            "card": card(entry),
        }
        for name, entry in sorted(known.items(), key=lambda item: item[1]["bits_per_byte"])  # the best writer first
    ]
    return {"models": models, "tries": [one for one in tries if one["model"] in known], "links": True}


def card(entry: dict[str, Any]) -> list[list[str]]:
    """What a reader should know of a model, as pairs of term and text."""
    made = (
        f"{entry['steps']:,} steps, {entry['tokens_trained_on'] / 1e6:.1f} million tokens, {entry['minutes']:.0f} min"
    )
    loss = f"{entry['loss']:.3f} nats a token, {entry['bits_per_byte']:.3f} bits a byte, on text it has not seen"
    return [
        ["Has read", f"{entry['corpus']} ({entry['licence']}), all but {entry['valid']:.1%}"],
        ["Tokens", entry["tokenizer"]],
        ["File", f"{entry['bytes'] / 1e6:.2f} MB, two bytes a parameter"],
        ["Loss", loss],
        ["Training", f"{made} on {entry['device']} ({entry['threads']} thread{'s' * (entry['threads'] != 1)})"],
        ["Made by", entry["command"]],
        ["Date", f"{entry['date']}, commit {entry['commit']}"],
    ]


def copy_models(static: Path) -> None:
    """Put the models' files where `fill` says they are."""
    for name, entry in published.manifest().items():
        write_bytes(static / FOLDER / f"{entry['file']}.gz", packed(name))


def packed(name: str) -> bytes:
    """The file of a published model as the site carries it: compressed here, since few hosts compress such a file."""
    path = published.weights_path(name)
    return _compressed(path, path.stat().st_mtime_ns)


@functools.cache
def _compressed(path: Path, _: int) -> bytes:
    return gzip.compress(path.read_bytes(), 9, mtime=0)


def _address(entry: dict[str, Any]) -> str:
    """Where that file lies, below the folder, under a name that changes with its contents."""
    return f"{entry['file']}.gz?v={entry['sha256'][:12]}"


def publish_own(body: str, out: Path, name: str, address: Callable[[str], str]) -> str:
    """The page of the chapter called `name` with a link where it made a page of its own model (`save_playground`),
    which is written to where the link leads."""

    def publish(match: re.Match) -> str:
        page, path = base64.b64decode(match[2]), f"_static/{FOLDER}/{name.replace('/', '-')}-{html.unescape(match[1])}"
        write_bytes(out / path, page)
        link = f'<a href="{html.escape(address(path))}">Open the model that this run trained</a>'
        return f"<p>{link} ({len(page) / 1e6:.1f} MB, a page that you can also save and open from your disk).</p>"

    return OWN.sub(publish, body)


def _mount(told: dict[str, Any]) -> str:
    return playground_html(told) if told["models"] else "<p>No model has been published yet.</p>"
