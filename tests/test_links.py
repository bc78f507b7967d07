"""Links between the files of the repository: what GitHub shows, beside what the site shows."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = ("*.md", ".github/**/*.md", "lib/**/*.md", "tests/**/*.md", "benchmarks/**/*.md", "examples/**/*.md")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s\"[^\"]*\")?\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)


def anchors(path):
    """The names that GitHub gives the headings of a Markdown file."""
    headings = re.findall(r"(?m)^#{1,6}\s+(.*?)\s*$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.S))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lost(path, root):
    """The relative links of a Markdown file that lead nowhere."""
    for link in LINK.findall(CODE.sub("", path.read_text("utf-8"))):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (path.parent / name) if name else path
        ok = target.exists() and target.resolve().is_relative_to(root.resolve())
        if not ok or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield f"{path.relative_to(root)}: {link}"


def test_links_within_the_repository_lead_somewhere():
    """Catches a file that was moved or a heading that was renamed, with a page that still links to it."""
    files = sorted({path for place in PLACES for path in ROOT.glob(place) if "node_modules" not in path.parts})
    assert len(files) > 5
    assert [link for path in files for link in lost(path, ROOT)] == []


def test_the_check_sees_and_spares(tmp_path):
    """Catches a check that follows nothing, or that takes code and other sites for files."""
    (tmp_path / "b.md").write_text("# What it is, again\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[x](b.md) [y](b.md#what-it-is-again) ![z](gone.png) [w](b.md#what)\n"
        "[v](https://x.org) `[u](no.md)` [t](../out)\n"
    )
    assert list(lost(page, tmp_path)) == ["a.md: gone.png", "a.md: b.md#what", "a.md: ../out"]
