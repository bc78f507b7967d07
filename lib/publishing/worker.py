"""Run one notebook with papermill in a process of its own: `python -m publishing.worker SOURCE TARGET PARAMETERS`.

One line of JSON on standard output for every cell that starts, and one for a failure. The target is written when
every cell has run, and not otherwise. Its metadata say what the run took (papermill's entry: when and how long; ours:
memory, machine and versions), which is what the status page shows.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

CELL_TIMEOUT = 3600  # seconds: the longest cell of a full-scale run
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
NOTE = "llmbook"  # the key of our entry in the metadata
PACKAGES = ("torch", "numpy", "plotly", "llmbook")


def run(source: Path, target: Path, parameters: dict) -> bool:
    """Execute `source` into `target`; False when a cell failed."""
    import papermill

    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    total = len(json.loads(source.read_text(encoding="utf-8"))["cells"])
    try:
        with tempfile.TemporaryDirectory() as empty:  # as in Colab: the notebook is there, the repository is not
            papermill.execute_notebook(
                str(source),
                str(partial),
                parameters=parameters,
                cwd=empty,
                kernel_name="python3",
                progress_bar=False,
                execution_timeout=CELL_TIMEOUT,
                on_cell_start=lambda cell, cell_index: _say(cell=cell_index + 1, of=total),
            )
        _note(partial)
        os.replace(partial, target)
        return True
    except papermill.PapermillExecutionError as error:
        _say(failed=_failure(source, partial, error))
    except Exception as error:  # the kernel died, a cell ran out of time, the disk is full
        _say(failed={"error": f"{type(error).__name__}: {error}".strip(), "traceback": []})
    finally:
        partial.unlink(missing_ok=True)
    return False


def _note(executed: Path) -> None:
    """Write into the metadata what this process knows of the run; the kernel has ended by now."""
    content = json.loads(executed.read_text(encoding="utf-8"))
    content["metadata"][NOTE] = {
        "memory": _peak_memory(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "versions": {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "device": _gpu(),
    }
    executed.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _peak_memory() -> int | None:
    """Bytes of resident memory that the kernel had at most (of its processes the largest); None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _gpu() -> str:
    """The name of this machine's first NVIDIA GPU, "CPU" without one; torch is too slow to be asked."""
    try:
        ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(ask, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        names = []
    return names[0].strip() if names else "CPU"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()


def _failure(source: Path, partial: Path, error: Exception) -> dict:
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    done = json.loads(partial.read_text(encoding="utf-8"))["cells"] if partial.exists() else []
    broken = [c["id"] for c in done if any(o["output_type"] == "error" for o in c.get("outputs", []))]
    number = next((k for k, cell in enumerate(cells, 1) if cell.get("id") in broken), None)
    trace = [line for part in error.traceback for line in ANSI.sub("", part).splitlines()]
    return {
        "cell": number,
        "id": broken[0] if broken else None,
        "source": error.source,
        "error": f"{error.ename}: {error.evalue}",
        "traceback": trace,
    }


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    try:
        ok = run(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if ok else 1)
