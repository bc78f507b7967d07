"""What the site carries of others', so that no page asks another host: plotly.js draws, MiniSearch searches, and KaTeX
sets formulas, while the site is built, with fonts that come along.

`python -m publishing vendor` is the only thing here that needs npm; the files themselves are committed. plotly.js
is taken in exactly the version that the installed plotly speaks, and bundled with the kinds of trace that
`llmbook.figures` draws: its own smallest bundle with heat maps is a third larger and takes four times as long to start.
"""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from .book import Book, BookError
from .files import write_text

ESBUILD = "0.28.2"
TRACES = ("bar", "heatmap")  # scatter is in the core
# The first line tells Chromium to compile every function while the file arrives, beside the page's own thread.
BANNER = """\
//# allFunctionsCalledOnLoad
/* plotly.js v{version} with the traces {traces}. MIT. Licences of what it contains: plotly.LICENSES */"""
README = """\
# Vendored files

Made by `PYTHONPATH=lib python -m publishing vendor` (needs npm, and only then): plotly.js is bundled from its published
sources, the others are fetched unchanged. Do not edit.

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


PACKAGES = (KATEX, MINISEARCH)


def vendor(book: Book) -> None:
    """Fetch or bundle everything and replace `web/vendor`. Raises BookError without npm or when npm fails."""
    from plotly.offline import get_plotlyjs_version

    if shutil.which("npm") is None:
        raise BookError("npm is not installed: it is needed to refresh web/vendor, and for nothing else.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / "vendor"
        plotly = get_plotlyjs_version()
        _bundle(plotly, Path(folder) / "plotly", new)
        for name in ("plotly.min.js", "plotly.LICENSES"):
            rows.append(f"| plotly.js | {plotly} | MIT | {name} | `{sha256(new / name)}` |")
        for package in PACKAGES:
            source = _fetch(package, Path(folder))
            for target in _copy(package, source, new):
                cells = package.name, package.version, package.licence, target.relative_to(new).as_posix()
                rows.append(f"| {' | '.join(cells)} | `{sha256(target)}` |")
        write_text(new / "README.md", README.format(rows="\n".join(rows)))
        shutil.rmtree(book.root / "web" / "vendor", ignore_errors=True)
        shutil.copytree(new, book.root / "web" / "vendor")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bundle(version: str, folder: Path, new: Path) -> None:
    """plotly.js with `TRACES` as one script that sets `window.Plotly`, and the licences of all it contains."""
    folder.mkdir()
    _npm(folder, "install", "--ignore-scripts", "--no-save", f"plotly.js@{version}", f"esbuild@{ESBUILD}")
    traces = ", ".join(f'require("plotly.js/lib/{name}")' for name in TRACES)
    entry = f'const Plotly = require("plotly.js/lib/core");\nPlotly.register([{traces}]);\nmodule.exports = Plotly;\n'
    write_text(folder / "entry.js", entry)
    banner = BANNER.format(version=version, traces=", ".join(("scatter", *TRACES)))
    options = [
        "--bundle",
        "--minify",
        "--format=iife",
        "--global-name=Plotly",
        "--target=es2020",
        "--legal-comments=none",
    ]
    options += ["--define:global=window", "--alias:stream=stream-browserify", f"--banner:js={banner}"]
    _npm(folder, "exec", "--", "esbuild", "entry.js", *options, "--metafile=meta.json", "--outfile=plotly.min.js")
    new.mkdir(parents=True)
    shutil.copyfile(folder / "plotly.min.js", new / "plotly.min.js")
    inputs = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["inputs"]
    contained = sorted({re.match(r"node_modules/((?:@[^/]+/)?[^/]+)", name)[1] for name in inputs if "/" in name})
    write_text(new / "plotly.LICENSES", "\n".join(_licence(folder / "node_modules" / name, name) for name in contained))


def _licence(package: Path, name: str) -> str:
    """What a package says of its licence: its name, its version, and the text where it carries one."""
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    texts = sorted(path for path in package.iterdir() if path.stem.upper() in ("LICENSE", "LICENCE", "COPYING"))
    text = texts[0].read_text(encoding="utf-8").strip() if texts else "(no text in the package)"
    return f"{name} {about['version']}: {about.get('license', 'see below')}\n\n{text}\n\n{'-' * 79}\n"


def _npm(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BookError(f"npm {arguments[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _fetch(package: Package, folder: Path) -> Path:
    wanted = f"{package.name}@{package.version}"
    packed = _npm(folder, "pack", "--silent", wanted)
    out = folder / wanted.replace("/", "-")
    with tarfile.open(folder / packed.split()[-1]) as archive:
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
