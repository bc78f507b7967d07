"""The benchmarks' own environment: the book's packages as they are, and the peers beside them.

`.bench-venv` sees the book's environment through one line in a .pth file, so torch is not installed twice and the
versions measured are the book's. What `requirements.txt` here names is installed on top, each by itself: a package
that cannot be had (llama.cpp needs a C++ compiler) costs its own row of the table and nothing else.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".bench-venv"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def enter() -> None:
    """Go on in the benchmarks' environment, which is made or completed first; returns if we are in it."""
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = VENV / "installed.txt"
    wanted = _wanted()
    if not stamp.exists() or stamp.read_text() != wanted:
        _create(python)
        if _install(python):
            stamp.write_text(wanted)
    os.chdir(ROOT)
    os.execv(python, [str(python), "-m", "benchmarks", *sys.argv[1:]])


def _wanted() -> str:
    return f"{sys.prefix}\n{sys.version}\n{REQUIREMENTS.read_text()}"


def _create(python: Path) -> None:
    print(f"Making {VENV.name}, once", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV], check=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    book = sysconfig.get_path("purelib")  # addsitedir, not a bare path: the book's own .pth files count too
    Path(theirs, "book.pth").write_text(f"import site; site.addsitedir({book!r})\n")


def _install(python: Path) -> bool:
    """Install the peers one by one, with the book's pip; False if one could not be had."""
    lines = [line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    complete = True
    for requirement in filter(None, lines):
        print(f"  {requirement} …", file=sys.stderr, flush=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            complete = False
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
            print(f"  {requirement} could not be installed, its row will say so: {reason[:200]}", file=sys.stderr)
    return complete
