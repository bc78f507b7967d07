"""What an executed copy tells of its run: the numbers in it, and the circumstances that can move them."""

import hashlib
import json
import re

from nbformat import NotebookNode

from llmbook.results.quantities import Quantity, printed

from . import notebooks
from .status import SCALE
from .worker import NOTE

# A runtime in words, as training prints it: "cuda, float16: Tesla T4; compute capability 7.5 has no bfloat16 …".
RUNTIME = re.compile(r"^(cpu|cuda|mps)(?::\d+)?, (float32|bfloat16|float16): ([^;\n]*)", re.M)
GIVEN = {"parameters", "injected-parameters", "setup"}


def quantities(executed: NotebookNode) -> dict[str, Quantity]:
    """Every number that its cells printed, and every one that it compared by itself, by name."""
    found: dict[str, Quantity] = {}
    for cell in notebooks.code_cells(executed):
        found |= printed(cell.id, _stdout(cell))
        for noted in _noted(cell):
            found |= {name: Quantity(value) for name, value in noted["quantities"].items()}
    return found


def circumstances(executed: NotebookNode) -> dict[str, str]:
    """What the copy says of its machine, versions, scale, device and code; what it does not say is left out."""
    note = executed.metadata.get(NOTE, {})
    told = {name.lower(): number for name, number in note.get("versions", {}).items()}
    told |= {name: note[name] for name in ("machine", "threads", "commit", "device") if note.get(name)}
    for cell in notebooks.code_cells(executed):
        for noted in _noted(cell):
            told |= noted["circumstances"]
    text = "\n".join(_stdout(cell) for cell in notebooks.code_cells(executed))
    if scale := SCALE.search(text):
        told["scale"] = scale[1]
    if runtimes := RUNTIME.findall(text):
        kinds = {(kind, reason if kind == "cuda" and "asked" not in reason else "") for kind, _, reason in runtimes}
        told["device"] = " and ".join(sorted({name or _DEVICES[kind] for kind, name in kinds}))
        told["dtype"] = " and ".join(sorted({dtype for _, dtype, _ in runtimes}))
    told["chapter"] = digest(executed)
    return {name: str(words) for name, words in told.items() if name != "plotly"}


def digest(notebook: NotebookNode) -> str:
    """A short hash of what its code cells say, without those that are set from outside."""
    cells = [c.source for c in notebooks.code_cells(notebook) if not GIVEN & set(notebooks.tags(c))]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12]


_DEVICES = {"cpu": "CPU", "cuda": "CUDA", "mps": "MPS"}


def _stdout(cell: NotebookNode) -> str:
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")


def _noted(cell: NotebookNode) -> list[dict]:
    """What a call of ``llmbook.results.compare`` in this cell left in the metadata of its output."""
    return [out.metadata[NOTE] for out in cell.outputs if NOTE in out.get("metadata", {})]
