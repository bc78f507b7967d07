"""Make the book's virtual environment, or find that it is up to date. Standard library only: nothing is installed yet.

A stamp in the environment holds a hash of `requirements.txt`, `lib/pyproject.toml` and the Python version; it is
written last, so that an interrupted installation is taken up again by the next `make`.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAMP = "book-environment"
OFFLINE = ("No matching distribution", "Max retries", "NewConnectionError", "name resolution", "timed out", "SSLError")


class EnvironmentProblem(Exception):
    """One line for the reader: what is wrong, and what to do."""


def wanted(root: Path) -> str:
    total = hashlib.sha256(sys.version.encode())
    for name in ("requirements.txt", "lib/pyproject.toml"):
        total.update((root / name).read_bytes())
    return total.hexdigest()


def prepare(root: Path, venv: Path) -> bool:
    """Create or complete `venv`; False when it was ready. Raises EnvironmentProblem."""
    stamp, state = venv / STAMP, wanted(root)
    if stamp.is_file() and stamp.read_text() == state and _python(venv).exists():
        return False
    if venv.exists() and not _usable(venv):
        shutil.rmtree(venv)
    if not venv.exists():
        _create(venv)
    stamp.unlink(missing_ok=True)
    print("Installing the pinned packages; the first time this takes a few minutes", flush=True)
    log = venv / "install.log"
    log.unlink(missing_ok=True)
    _pip(venv, log, "install", "-r", str(root / "requirements.txt"))
    _pip(venv, log, "install", "--no-deps", "-e", str(root / "lib"))
    stamp.write_text(state)
    return True


def _create(venv: Path) -> None:
    print(f"Creating {venv.name} with Python {sys.version.split()[0]}", flush=True)
    done = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise EnvironmentProblem(
            f"{sys.executable} cannot create a virtual environment (no venv or ensurepip module): install it, "
            f"on Debian and Ubuntu `apt-get install python{version}-venv`, or choose another with PYTHON=."
        )


def _pip(venv: Path, log: Path, *arguments: str) -> None:
    """Run pip with its messages in `log`, and a line of our own for every twenty-five packages."""
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [str(_python(venv)), "-m", "pip", *arguments, "--progress-bar", "off"]
    tail, packages = [], 0
    with log.open("a") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=venv
        )
        try:
            for line in process.stdout:
                file.write(line)
                tail = [*tail[-40:], line.strip()]
                packages += line.startswith("Collecting ")
                if line.startswith("Collecting ") and packages % 25 == 0:
                    print(f"  {packages} packages …", flush=True)
                if line.startswith("Installing collected"):
                    print("  unpacking …", flush=True)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        code = process.wait()
    if code:
        errors = [line for line in tail if line.startswith("ERROR")] or tail[-1:]
        text = " ".join(tail)
        reason = "no package index could be reached" if any(w in text for w in OFFLINE) else "pip failed"
        raise EnvironmentProblem(
            f"{reason}: {errors[-1] if errors else 'no message'} — check the network, then run make again: it goes "
            f"on from here (details: {log})."
        )


def _python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _usable(venv: Path) -> bool:
    """Whether `venv` belongs to this Python and has pip; one of another version is made anew."""
    ask = "import sys, pip; print(sys.version)"
    try:
        done = subprocess.run([str(_python(venv)), "-c", ask], capture_output=True, text=True)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == sys.version.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venv", type=Path)
    try:
        prepare(ROOT, parser.parse_args().venv.absolute())
    except EnvironmentProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted: run make again, it goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
