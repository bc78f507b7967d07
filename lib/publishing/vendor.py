"""The two libraries the site carries, so that no page asks another host: plotly.js to draw, MathJax to set formulas.

`python -m publishing vendor` is the only thing here that needs npm; the files themselves are committed. plotly.js
is taken in exactly the version that the installed plotly speaks.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .book import Book, BookError
from .files import write_text

MATHJAX = "3.2.2"
PLOTLY = "plotly.js-cartesian-dist-min"
README = """\
# Vendored files

Fetched unchanged by `PYTHONPATH=lib python -m publishing vendor` (needs npm, and only then). Do not edit.

| package | version | licence | file | sha256 |
|---|---|---|---|---|
{rows}
"""


def vendor(book: Book) -> None:
    """Fetch both packages and replace `web/vendor`. Raises BookError without npm or when npm fails."""
    from plotly.offline import get_plotlyjs_version

    if shutil.which("npm") is None:
        raise BookError("npm is not installed: it is needed to refresh web/vendor, and for nothing else.")
    plotly = get_plotlyjs_version()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / "vendor"
        package = _fetch(f"{PLOTLY}@{plotly}", Path(folder))
        _copy(package / "plotly-cartesian.min.js", new / "plotly-cartesian.min.js")
        _copy(package / "LICENSE", new / "plotly-cartesian.LICENSE")
        rows += [
            (PLOTLY, plotly, "MIT", "plotly-cartesian.min.js"),
            (PLOTLY, plotly, "MIT", "plotly-cartesian.LICENSE"),
        ]
        package = _fetch(f"mathjax@{MATHJAX}", Path(folder))
        _copy(package / "LICENSE", new / "mathjax" / "LICENSE")
        fonts = sorted((package / "es5/output/chtml/fonts/woff-v2").glob("*.woff"))
        for file in [package / "es5/tex-chtml.js", *fonts]:
            _copy(file, new / "mathjax" / file.relative_to(package / "es5"))
        files = sorted(path for path in (new / "mathjax").rglob("*") if path.is_file())
        rows += [("mathjax", MATHJAX, "Apache-2.0", path.relative_to(new).as_posix()) for path in files]
        lines = [f"| {p} | {v} | {licence} | {f} | `{sha256(new / f)}` |" for p, v, licence, f in rows]
        write_text(new / "README.md", README.format(rows="\n".join(lines)))
        shutil.rmtree(book.root / "web" / "vendor", ignore_errors=True)
        shutil.copytree(new, book.root / "web" / "vendor")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(package: str, folder: Path) -> Path:
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BookError(f"npm could not fetch {package}: {done.stderr.strip()[-300:]}")
    out = folder / package.replace("/", "-")
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        archive.extractall(out, filter="data")
    return out / "package"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
