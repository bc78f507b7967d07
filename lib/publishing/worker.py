"""Run one notebook with papermill in a process of its own: `python -m publishing.worker ROOT SOURCE TARGET PARAMETERS`.

Standard input holds the inputs of the run (see inputs.py). One line of JSON on standard output for every cell that
starts, and one for a failure. The target is written when every cell has run, and not otherwise. Its metadata say what
the run took (papermill's entry: when and how long; ours: memory, machine and versions), which is what the status page
shows, and what it depended on, which decides whether it may be taken again.
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

from .records import NOTE, seal

CELL_TIMEOUT = 3600  # seconds: the longest cell of a full-scale run
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
EXPECTED = "raises-exception"  # the tag of a cell that must fail; papermill does not know it
WATCH = "--IPKernelApp.extra_extensions=publishing.witness"
PACKAGES = ("torch", "numpy", "plotly", "llmbook")


def run(root: Path, source: Path, target: Path, parameters: dict, inputs: dict[str, str]) -> bool:
    """Execute `source` into `target`; False when a cell failed."""
    import papermill

    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    begun: dict = {}

    def begin(cell, cell_index: int) -> None:
        begun.update(id=cell.get("id"), source=cell.source)
        _say(cell=cell_index + 1, of=len(cells))

    try:
        with tempfile.TemporaryDirectory() as empty:  # as in Colab: the notebook is there, the repository is not
            os.environ["LLMBOOK_WITNESS"] = str(seen := Path(empty) / "witness.json")
            folder = Path(empty) / "chapter"
            folder.mkdir()
            try:
                papermill.execute_notebook(
                    str(source),
                    str(partial),
                    parameters=parameters,
                    cwd=str(folder),
                    kernel_name="python3",
                    progress_bar=False,
                    execution_timeout=CELL_TIMEOUT,
                    on_cell_start=begin,
                    extra_arguments=[WATCH],
                )
            except papermill.PapermillExecutionError:
                if not _all_expected(partial):
                    raise
            _note(partial)
            seal(partial, inputs, root, json.loads(seen.read_text()) if seen.exists() else {})
        os.replace(partial, target)
        return True
    except papermill.PapermillExecutionError as error:
        _say(failed=_failure(cells, partial, error))
    except Exception as error:  # the kernel died, a cell ran out of time, the disk is full
        number = next((k for k, cell in enumerate(cells, 1) if cell.get("id") == begun.get("id")), None)
        what = f"{type(error).__name__}: {error}".strip()
        _say(failed={"error": what, "traceback": [], "cell": number, **(begun if number else {})})
    finally:
        partial.unlink(missing_ok=True)
    return False


def _all_expected(executed: Path) -> bool:
    """Whether every cell ran, and those that failed were meant to."""
    cells = [c for c in json.loads(executed.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    ran = all(cell["execution_count"] for cell in cells if "".join(cell["source"]).strip())
    return ran and all(EXPECTED in cell["metadata"].get("tags", []) for cell, _ in _errors(cells))


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


def _failure(cells: list[dict], partial: Path, error: Exception) -> dict:
    """The cell that failed without being meant to; papermill names the first that failed at all."""
    done = json.loads(partial.read_text(encoding="utf-8"))["cells"] if partial.exists() else []
    broken = [(cell, out) for cell, out in _errors(done) if EXPECTED not in cell["metadata"].get("tags", [])]
    cell, out = broken[0] if broken else ({"source": error.source}, vars(error))
    trace = [line for part in out["traceback"] for line in ANSI.sub("", part).splitlines()]
    return {
        "cell": next((k for k, one in enumerate(cells, 1) if one.get("id") == cell.get("id", "")), None),
        "id": cell.get("id"),
        "source": "".join(cell["source"]),
        "error": f"{out['ename']}: {out['evalue']}",
        "traceback": trace,
    }


def _errors(cells: list[dict]) -> list[tuple[dict, dict]]:
    """Every error among the outputs, with its cell."""
    return [(cell, out) for cell in cells for out in cell.get("outputs", []) if out["output_type"] == "error"]


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    try:
        paths, parameters = map(Path, sys.argv[1:4]), json.loads(sys.argv[4])
        ok = run(*paths, parameters, json.load(sys.stdin))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if ok else 1)
