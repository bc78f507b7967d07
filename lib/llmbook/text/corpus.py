"""The texts of the book by name.

``load_corpus("shakespeare-plays")`` works wherever a package index does; the others need a file one has, or the
open network. ``registry`` says what each text is, ``sources`` where files come from and how they are verified.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmbook.storage.sources import SourceError, fetch_file, locate_package_files
from llmbook.text.registry import REGISTRY, Entry


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text and what one must know of it.

    ``documents`` are its parts in order (plays, speeches, chapters …) by title; ``splits`` are the source's own
    train, valid and test texts, or None; ``source`` says where this copy came from.
    """

    name: str
    text: str = field(repr=False)
    licence: str
    citation: str
    source: str
    documents: Mapping[str, str] = field(repr=False)
    splits: Mapping[str, str] | None = field(default=None, repr=False)

    def split(self, valid: float = 0.1) -> tuple[str, str]:
        """(training text, validation text).

        Where the source defines a split, that one; results are then comparable with everyone else's. Otherwise
        the last ``valid`` of the characters is held out, as ``split_text`` says.
        """
        if self.splits is not None:
            return self.splits["train"], self.splits["valid"]
        return split_text(self.text, valid, name=self.name)

    def __str__(self) -> str:
        n_bytes = len(self.text.encode("utf-8"))
        return f"{self.name}: {len(self.text):,} characters, {n_bytes:,} bytes; {self.licence}; from {self.source}"


def split_text(text: str, valid: float, *, name: str) -> tuple[str, str]:
    """The last ``valid`` of the characters held out, in one piece: (training text, validation text).

    Random lines would leave each held-out line's neighbours in the training text. Raises ValueError unless
    0 < ``valid`` < 1 leaves both parts some text; ``name`` is what the message calls it.
    """
    cut = int(len(text) * (1 - valid)) if 0 < valid < 1 else 0
    if not 0 < cut < len(text):
        raise ValueError(
            f"valid={valid} of the {len(text):,} characters of {name} leaves one part empty; "
            "it is a fraction between 0 and 1"
        )
    return text[:cut], text[cut:]


class CorpusTable(dict[str, Entry]):
    """The registry, printing as a table: one line a corpus."""

    def __str__(self) -> str:
        rows = [(name, e.size, e.about, e.licence, e.where) for name, e in self.items()]
        rows.insert(0, ("name", "size", "what", "licence", "found in"))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    __repr__ = __str__


def corpora() -> CorpusTable:
    """Every corpus by name; prints as a table of size, content, licence and source."""
    return CorpusTable(REGISTRY)


def load_corpus(name: str) -> Corpus:
    """The corpus of that name, fetched and verified where it is not on this machine yet.

    Raises ValueError for an unknown name, with the near ones, and SourceError if no source can give it, with
    every source tried, why it failed and what to do.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(REGISTRY)}"
        raise ValueError(f"no corpus named {name!r}; {hint} corpora() lists them all")
    entry = REGISTRY[name]
    try:
        files, source = _files(entry)
    except SourceError as error:
        raise SourceError(f"corpus {name!r} ({error.name})", error.tried, error.advice) from None
    documents = entry.read(files)
    return Corpus(
        name=name,
        text=entry.between.join(documents.values()),
        licence=entry.licence,
        citation=entry.citation,
        source=source,
        documents=documents,
        splits=documents if "train" in entry.web else None,
    )


def _files(entry: Entry) -> tuple[dict[str, Path], str]:
    """The entry's files by name, and in words where they came from."""
    if entry.package is not None:
        package = entry.package
        return locate_package_files(package.name, package.version, package.files, sha256=package.sha256)
    found = {split: fetch_file(file) for split, file in entry.web.items()}
    return {split: path for split, (path, _) in found.items()}, "; ".join(
        dict.fromkeys(source for _, source in found.values())
    )
