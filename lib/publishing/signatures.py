"""How the names of the library are called: their signatures as the reference shows them."""

import re
import subprocess
import sys
from collections.abc import Iterable

import griffe

from .book import BookError

WIDTH = 76  # of a signature, so that it stands on a page without a scroll bar
SHAPE = re.compile(r"\b(Float|Int|Bool|Int8|UInt8)\[Tensor, ([^'\[\]]+)\]")
LONGEST_VALUE = 200  # of a constant; what is longer is better read in its source


def members(obj: griffe.Class) -> list[griffe.Object]:
    """Public methods and properties that the class itself defines."""
    own = [m for m in obj.members.values() if not m.is_alias and not m.name.startswith("_") and m.lineno]
    return [m for m in own if m.is_function or _is_property(m)]


def _is_property(obj: griffe.Object) -> bool:
    return bool({"property", "cached"} & obj.labels)


def formatted(objects: Iterable[griffe.Object]) -> dict[str, str]:
    """Signatures by path, laid out by ruff as the library itself is."""
    unique = {obj.path: obj for obj in objects}
    stubs = [stub for obj in unique.values() for stub in (f"# {obj.path}", _stub(obj))]
    command = [sys.executable, "-m", "ruff", "format", "--isolated", f"--line-length={WIDTH}", "-"]
    done = subprocess.run(command, input="\n".join(stubs), capture_output=True, text=True)
    if done.returncode:
        raise BookError(f"a signature of the library could not be laid out: {done.stderr.strip()}")
    blocks = re.split(r"(?m)^# (llmbook[\w.]*)\n", done.stdout)[1:]
    return {path: _shown(text, unique[path]) for path, text in zip(blocks[::2], blocks[1::2], strict=True)}


def _stub(obj: griffe.Object) -> str:
    """The name with its parameters, as code that ruff can lay out."""
    if obj.is_attribute:
        if _is_property(obj):
            return f"def {obj.name}() -> {_with_shapes(str(obj.annotation or 'Any'))}: ..."
        value = str(obj.value or "...")
        return f"{obj.name} = {value if len(value) <= LONGEST_VALUE else '...'}"
    signature = obj.signature()
    if obj.is_class and not signature:
        bases = [str(base) for base in obj.bases]
        if "NamedTuple" not in bases:  # an exception or a protocol
            return f"class {obj.name}({', '.join(bases)}): ..."
        fields = [m for m in obj.members.values() if m.is_attribute and m.annotation and not _is_property(m)]
        own = (f"{m.name}: {m.annotation}" + (f" = {m.value}" if m.value else "") for m in fields)
        signature = f"{obj.name}({', '.join(own)})"
    bare = re.sub(r"\((?:self|cls)(?:, )?", "(", signature, count=1)
    return f"def {_with_shapes(bare)}: ..."


def _with_shapes(signature: str) -> str:
    """griffe takes the shape of one axis for a name, and drops its quotes."""
    return SHAPE.sub(r"\1[Tensor, '\2']", signature)


def _shown(text: str, obj: griffe.Object) -> str:
    """A formatted stub as a reader knows signatures: no `def`, no body."""
    text = re.sub(r":\s*\.\.\.\s*$", "", text.strip())
    text = re.sub(r"^def ", "", text)
    return text.replace("()", "", 1) if obj.is_attribute else text
