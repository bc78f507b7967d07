"""The repository's address: written once, in `_config.yml`; everywhere else derived from it, or checked against it.

What is installed or opened from there is the book's `ref`: the tag of a release, the branch between releases.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from .book import Book, BookError
from .files import write_text

URL = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
PLACES = ("*.md", "*.ipynb", "*.cff", ".github/**/*.yml", ".github/**/*.md", "lib/*.md", "lib/*.toml")
PLACES += ("chapters/**/*.ipynb", "chapters/**/*.md")
# The forms in which a file may name the repository: installing from it, opening it in Colab, cloning it.
FORMS = (
    re.compile(r"git\+https://github\.com/(?P<slug>[\w.-]+/[\w.-]+?)@(?P<ref>[\w./-]+)#subdirectory=lib"),
    re.compile(r"colab\.research\.google\.com/github/(?P<slug>[\w.-]+/[\w.-]+)/blob/(?P<ref>[\w.-]+)"),
    re.compile(r"git clone https://github\.com/(?P<slug>[\w.-]+/[\w-]+)(?P<ref>)"),
)


def change(book: Book, url: str, branch: str | None = None) -> list[str]:
    """Move the book to `url` and `branch`; return the names of the files that changed.

    With the address it has, this brings every place to the book's `ref`, as a release must.
    """
    match = URL.fullmatch(url)
    if not match:
        raise BookError(f"{url!r} is not a repository's address: give https://github.com/OWNER/NAME.")
    old_url, old_branch = book.address
    old, new, branch = _slug(old_url), match[1], branch or old_branch
    if not re.fullmatch(r"[\w./-]+", branch):
        raise BookError(f"{branch!r} is not the name of a branch.")
    config = book.root / "_config.yml"
    text = config.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^(\s+url:\s*)" + re.escape(old_url) + r"(\s*)$", rf"\g<1>https://github.com/{new}\2", text)
    text = re.sub(r"(?m)^(\s+branch:\s*)" + re.escape(old_branch) + r"(\s*)$", rf"\g<1>{branch}\2", text)
    changes = {config: text}
    ref = branch if book.ref == old_branch else book.ref
    for path in _places(book):
        text = path.read_text(encoding="utf-8")
        for form in FORMS:
            text = form.sub(lambda m: _moved(m, old, new, ref), text)
        changes[path] = re.sub(rf"(github\.com/){re.escape(old)}(?![\w-])", rf"\g<1>{new}", text)
    return [book.name(path) for path, text in changes.items() if write_text(path, text)]


def stale(book: Book) -> list[str]:
    """Every place that installs, opens or clones another repository than the one of `_config.yml`, or another `ref`."""
    url, _ = book.address
    found = []
    for path in _places(book):
        for form in FORMS:
            for match in form.finditer(path.read_text(encoding="utf-8")):
                if match["slug"] != _slug(url) or match["ref"] not in ("", book.ref):
                    found.append(
                        f"{book.name(path)}: {match.group()!r} is not the address in _config.yml at {book.ref} "
                        f"(the version is {book.version}): run `make address URL={url}`."
                    )
    return found


def _moved(match: re.Match, old: str, new: str, ref: str) -> str:
    """The same form with the new address, where it named the old one."""
    if match["slug"] != old:
        return match.group()
    text = match.group().replace(old, new, 1)
    return text if not match["ref"] else re.sub(rf"{re.escape(match['ref'])}(#|$)", rf"{ref}\1", text)


def _slug(url: str) -> str:
    match = URL.fullmatch(url)
    if not match:
        raise BookError(f"_config.yml: repository.url {url!r} is not https://github.com/OWNER/NAME.")
    return match[1]


def _places(book: Book) -> Iterator[Path]:
    for pattern in PLACES:
        yield from (p for p in sorted(book.root.glob(pattern)) if ".ipynb_checkpoints" not in p.parts)
