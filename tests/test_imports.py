"""Which part of the library may build on which."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import llmbook

ROOT = Path(llmbook.__file__).parent
MAY_IMPORT = {
    "storage": set(),
    "cpu": set(),
    "model": {"cpu"},
    "text": {"storage"},
    "results": {"storage"},
    "notebook": set(),
    "figures": {"notebook", "playground"},
    "interpret": {"model"},
    "evaluation": set(),
    "retrieval": set(),
    "parallel": {"model"},
    "training": {"storage", "cpu", "model", "text"},
    "compression": {"cpu", "model", "text", "training"},
    "adaptation": {"storage", "model", "text", "training"},
    "published": set(),
    "playground": {"storage", "notebook"},
    # adaptation: adapters as others keep them
    "interop": {"storage", "model", "text", "training", "adaptation", "published", "playground"},
    # interop: the server opens models by their names
    "inference": {"storage", "cpu", "model", "text", "adaptation", "interop"},
}
LEAVES = {"exercises"}  # of a chapter: they may need whatever it needs, and nothing needs them


def imports() -> set[tuple[str, str, str]]:
    """(part, file, the part it imports from) for every import of the library, those inside functions too."""
    found = set()
    for path in ROOT.rglob("*.py"):
        file = path.relative_to(ROOT)
        part = file.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file}: a relative import"
                names = [node.module] if node.module != "llmbook" else [f"llmbook.{a.name}" for a in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            else:
                continue
            steps = (name.split(".") for name in names)
            found |= {(part, file.as_posix(), s[1]) for s in steps if s[0] == "llmbook" and s[1:] and s[1] != part}
    return found


def test_imports_point_one_way():
    """A model that knows how it is trained, a training loop that knows notebooks or servers: parts that can no longer
    be read, or used, without each other."""
    wrong = [
        f"{file} imports llmbook.{other}; {part} may import {sorted(MAY_IMPORT[part]) or 'nothing of the library'}"
        for part, file, other in imports()
        if part not in {"__init__", *LEAVES} and other not in MAY_IMPORT[part]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_is_the_library():
    """A permission nobody uses any more, a part the table does not know, and parts that need each other."""
    parts = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert parts - {"__init__"} == set(MAY_IMPORT) | LEAVES
    used = {(part, other) for part, _, other in imports()}
    assert {(part, other) for part, others in MAY_IMPORT.items() for other in others} <= used
    TopologicalSorter(MAY_IMPORT).prepare()  # raises CycleError, with the parts in the circle
