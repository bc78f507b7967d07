"""Render the site with Jupyter Book, execution off, every warning an error.

Sphinx renders only pages whose source changed. What it does not see (the table of contents, the theme's settings, our
extension, the assets) is hashed here and renders everything anew, as does a failure: a warning is given only when
its page is read, and a second build must not pass because the first one had read it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .book import Book, BookError
from .execute import LIBRARY
from .files import digest, write_text
from .worker import ANSI

QUOTED = ("glossary", "notation")
# The modules that say how a page looks.
OWN = (
    "engine.py",
    "glossary.py",
    "mathematics.py",
    "playground.py",
    "render.py",
    "search.py",
    "sphinx_ext.py",
    "synonyms.yml",
)


def render(book: Book, source: Path) -> bool:
    """Render `source` into `_build/html`; False when there was nothing to do.

    Raises BookError when Jupyter Book fails or warns; its own messages are on standard error by then.
    """
    outside = ("_config.yml", "_toc.yml", "web", "lib/pyproject.toml")  # the last holds the version: what Colab opens
    frame = digest(book.root, [book.root / name for name in outside])
    # Pages quote the entries that they link to.
    frame += digest(source, [path for name in QUOTED if (path := source / f"{name}.md").is_file()])
    library = LIBRARY / "llmbook"
    # All of this tool: cheaper to render once too often than to miss a change.
    shown = [library / "published", library / "figures" / "assets", library / "playground"]
    own = [path for path in sorted(Path(__file__).parent.iterdir()) if path.suffix in (".py", ".js", ".yml")]
    frame += digest(LIBRARY, [*own, *shown])
    stamp, state = book.build / "rendered", f"{frame}\n{digest(source, [source])}\n"
    before = stamp.read_text() if stamp.is_file() else ""
    if before == state and (book.html / "index.html").is_file():
        return False
    stamp.unlink(missing_ok=True)
    doctrees = book.build / ".doctrees"
    if before.partition("\n")[0] != frame:
        shutil.rmtree(doctrees, ignore_errors=True)
        shutil.rmtree(book.html, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [
        str(jupyter_book),
        "build",
        "-W",
        "-n",
        "--keep-going",
        "-q",
        str(source),
        "--path-output",
        str(book.root),
    ]
    path = os.pathsep.join([str(LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        shutil.rmtree(doctrees, ignore_errors=True)
        told = _messages(done.stdout, source)
        raise BookError(f"{told}\nThe site has warnings, and they count as errors: mend the above.")
    write_text(stamp, state)
    return True


def _messages(log: str, source: Path) -> str:
    """Sphinx's warnings out of Jupyter Book's log, or its end where there are none.

    MyST gives a place in a notebook as ten thousand times the cell plus the line; here the two are told apart.
    """
    lines = [ANSI.sub("", line).replace(f"{source}/", "") for line in log.splitlines() if line.strip()]
    lines = [re.sub(r"\.ipynb:(\d+)(\d{4}):", _place, line) for line in lines]
    told = [line for line in lines if "WARNING" in line or "ERROR" in line]
    return "\n".join(dict.fromkeys(told)) if told else "\n".join(lines[-20:])


def _place(match: re.Match) -> str:
    return f".ipynb, cell {match[1]}, line {int(match[2])}:"
