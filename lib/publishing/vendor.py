"""What the site carries of others', so that no page asks another host: plotly.js draws, MiniSearch searches, and KaTeX
sets formulas, while the site is built, with fonts that come along.

`python -m publishing vendor` is the only thing here that needs npm; the files themselves are committed. plotly.js
is taken in exactly the version that the installed plotly speaks.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from .book import Book, BookError
from .files import write_text

README = """\
# Vendored files

Fetched unchanged by `PYTHONPATH=lib python -m publishing vendor` (needs npm, and only then). Do not edit.

| package | version | licence | file | sha256 |
|---|---|---|---|---|
{rows}
"""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of npm, and what is taken of it: patterns of its files, each with its place in `web/vendor`."""

    name: str
    version: str
    licence: str
    files: dict[str, str] = field(hash=False)  # a place that ends with a slash is a folder


KATEX = Package(
    name="katex",
    version="0.19.1",
    licence="MIT",
    files={
        "LICENSE": "katex/LICENSE",
        "dist/katex.min.js": "katex/",
        "dist/katex.min.css": "katex/",
        "dist/contrib/copy-tex.min.js": "katex/",
        "dist/fonts/*.woff2": "katex/fonts/",
    },
)
MINISEARCH = Package(
    name="minisearch",
    version="7.2.0",
    licence="MIT",
    files={"LICENSE.txt": "minisearch/LICENSE", "dist/umd/index.js": "minisearch/minisearch.js"},
)


def packages() -> list[Package]:
    """All that is vendored."""
    from plotly.offline import get_plotlyjs_version

    plotly = Package(
        name="plotly.js-cartesian-dist-min",
        version=get_plotlyjs_version(),
        licence="MIT",
        files={"plotly-cartesian.min.js": "", "LICENSE": "plotly-cartesian.LICENSE"},
    )
    return [plotly, KATEX, MINISEARCH]


def vendor(book: Book) -> None:
    """Fetch all packages and replace `web/vendor`. Raises BookError without npm or when npm fails."""
    if shutil.which("npm") is None:
        raise BookError("npm is not installed: it is needed to refresh web/vendor, and for nothing else.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / "vendor"
        for package in packages():
            source = _fetch(package, Path(folder))
            for target in _copy(package, source, new):
                cells = package.name, package.version, package.licence, target.relative_to(new).as_posix()
                rows.append(f"| {' | '.join(cells)} | `{sha256(target)}` |")
        write_text(new / "README.md", README.format(rows="\n".join(rows)))
        shutil.rmtree(book.root / "web" / "vendor", ignore_errors=True)
        shutil.copytree(new, book.root / "web" / "vendor")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(package: Package, folder: Path) -> Path:
    wanted = f"{package.name}@{package.version}"
    done = subprocess.run(["npm", "pack", "--silent", wanted], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BookError(f"npm could not fetch {wanted}: {done.stderr.strip()[-300:]}")
    out = folder / wanted.replace("/", "-")
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        archive.extractall(out, filter="data")
    return out / "package"


def _copy(package: Package, source: Path, new: Path) -> list[Path]:
    """The files of `package` at their places below `new`; BookError where a pattern finds none."""
    targets = []
    for pattern, place in package.files.items():
        found = sorted(source.glob(pattern))
        if not found:
            raise BookError(f"{package.name}@{package.version} has no {pattern}: has it been moved?")
        for file in found:
            target = new / place / file.name if place.endswith("/") or not place else new / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            targets.append(target)
    return targets
