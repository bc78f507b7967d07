"""CHANGELOG.md as keepachangelog.com describes it: what is unreleased at the top, then every release with its day.

The links at the end say where each of them can be seen; a release adds its own.
"""

import datetime
import re
from dataclasses import dataclass

from .book import RELEASE, BookError

UNRELEASED = re.compile(r"^## \[Unreleased\][^\S\n]*\n(?P<body>.*?)(?=^## |^\[[^\]\n]+\]: |\Z)", re.M | re.S)
RELEASED = re.compile(rf"^## \[(?P<version>{RELEASE.pattern})\] - (?P<day>\d{{4}}-\d\d-\d\d)$", re.M)
LINKS = re.compile(r"^\[[^\]\n]+\]: \S+\n?", re.M)


@dataclass(frozen=True)
class Changelog:
    """The text of a changelog. Raises BookError where it has no section for what is unreleased."""

    text: str

    def __post_init__(self):
        if not UNRELEASED.search(self.text):
            raise BookError("CHANGELOG.md has no section `## [Unreleased]`: write one, with what is new.")

    @property
    def unreleased(self) -> str:
        """What has changed since the last release, as it is written there; empty where nobody has written anything."""
        return UNRELEASED.search(self.text)["body"].strip()

    @property
    def versions(self) -> list[str]:
        """The releases it tells of, the newest first."""
        return [match["version"] for match in RELEASED.finditer(self.text)]

    def release(self, version: str, day: datetime.date, url: str) -> "Changelog":
        """The same with what was unreleased under `version`. Raises BookError where that is nothing but headings."""
        if not re.sub(r"^#.*$", "", self.unreleased, flags=re.M).strip():
            raise BookError("CHANGELOG.md says nothing under Unreleased: write what this release changes for a reader.")
        body = self.unreleased
        section = f"## [Unreleased]\n\n## [{version}] - {day.isoformat()}\n\n{body}\n\n"
        text = LINKS.sub("", UNRELEASED.sub(lambda _: section, self.text, count=1)).rstrip()
        return Changelog(f"{text}\n\n{_links(url, [version, *self.versions])}")


def _links(url: str, versions: list[str]) -> str:
    """Unreleased leads to what came after the newest release, a release to what it changed since the one before."""
    lines = [f"[Unreleased]: {url}/compare/v{versions[0]}...HEAD"]
    for new, old in zip(versions, [*versions[1:], None], strict=True):
        lines.append(f"[{new}]: {url}/compare/v{old}...v{new}" if old else f"[{new}]: {url}/releases/tag/v{new}")
    return "\n".join(lines) + "\n"
