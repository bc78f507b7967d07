"""Everything that one execution of a notebook depends on, each with a digest; one hash over all of it is its key.

A name of an input says what it is: `module llmbook.model.attention`, `file lib/llmbook/results/scale.json`, `cells`.
Prose, docstrings, comments and modules that the notebook does not use are no inputs; the text of what it shows with
`show_source` is one.
"""

import ast
import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from llmbook.exercises.finding import module_of

from . import notebooks
from .book import Book
from .modules import DEFINITION, Code, Module, digest, read_code, without_docstrings
from .pins import third_party, versions
from .reach import Packages, Reach

SHOWS = {"show_source", "source_markdown"}  # of llmbook.notebook: what they are given is shown as text
CHECKS, CHAPTER = "llmbook.exercises.finding", re.compile(r"\d+(?:-\w+)+/\w+(?:-\w+)*")
# Variables that change what a run computes: all of the library's but those that name folders or watch.
STEERS = re.compile(
    r"LLMBOOK_(?!(?:STATIC|DATA|CACHE|RECORDS|FRESH|BASE|WITNESS|WITNESS_CALLS)$)\w+|CUDA_VISIBLE_DEVICES"
)


def key(inputs: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:20]


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names of the inputs that two runs do not share."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def inputs(book: Book, source: Path, parameters: dict, *, packages: Packages | None = None) -> dict[str, str]:
    """What executing `source` with `parameters` depends on, by name."""
    packages = packages or Packages({"llmbook": book.root / "lib"})
    cells = notebooks.code_cells(notebooks.read(source))
    trees = [parse_cell(cell.source) for cell in cells]
    code = read_code([statement for tree in trees if tree for statement in tree.body])
    code.computed |= None in trees  # a cell that is no Python may do anything
    reach = Reach(packages, code)
    if CHECKS in reach.used:  # which finds the exercises by the chapter's name
        chapters = filter(CHAPTER.fullmatch, code.arguments)
        reach.follow(read_code([ast.Import([ast.alias(module_of(name))]) for name in sorted(chapters)]))
    found = {
        "cells": _hash([_cell(cell, tree) for cell, tree in zip(cells, trees, strict=True)]),
        "parameters": json.dumps(parameters, sort_keys=True),
        "machine": json.dumps(machine()),
        "names": _hash(sorted(reach.bound.items())),
        "versions": _hash(versions(book.root / "requirements.txt", third_party(packages, reach, code))),
    }
    found |= _modules(packages, reach, as_text=code.documented)
    found |= {f"file {book.name(path)}": _file(path) for path in files(packages, reach, code)}
    found |= _shown(packages, reach, [tree for tree in trees if tree], code)
    return dict(sorted(found.items()))


def _modules(packages: Packages, reach: Reach, *, as_text: bool) -> dict[str, str]:
    """What of the library the execution can run; its text where the notebook reads source itself."""
    acting = {name for name in reach.loaded if packages.module(name).effects}
    found = {}
    for name in reach.used | reach.own | acting:
        module = packages.module(name)
        code = module.digest if name in reach.used else module.own_digest
        found[f"module {name}"] = _hash(module.text) if as_text else code
    return found


def parse_cell(source: str) -> ast.Module | None:
    """The cell as Python sees it, magics turned into calls; None where that is not Python."""
    for transform in (str, TransformerManager().transform_cell):
        try:
            return ast.parse(transform(source))
        except SyntaxError:
            pass
    return None


def _cell(cell: NotebookNode, tree: ast.Module | None) -> list[object]:
    quiet = cell.source.rstrip().endswith(";")  # which keeps the last value from being shown
    return [cell.get("id"), notebooks.tags(cell), quiet, digest(tree) if tree else cell.source]


def machine(also: Iterable[str] = ()) -> dict[str, str]:
    """What steers a run from outside: the Python, a GPU, the variables that are not about folders, and those named."""
    gpu = str(any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")))
    steering = {name: value for name, value in os.environ.items() if value and (STEERS.fullmatch(name) or name in also)}
    return {"python": platform.python_version(), "gpu": gpu} | dict(sorted(steering.items()))


# Files


def files(packages: Packages, reach: Reach, code: Code) -> list[Path]:
    """The files of the library that what is reached reads: those its path expressions lead to.

    Of a folder that belongs to a package's own modules (`results`, `published`) only those are taken whose name the
    notebook gives to a call, or the module itself says; a folder below (`figures/assets/tokens`) is taken whole.
    """
    found: set[Path] = set()
    for name in reach.used | reach.own:
        module = packages.module(name)
        if "__file__" not in module.text:
            continue
        names = code.arguments | module.code.strings
        named = [re.compile(_pattern(text)) for text in code.patterns if _telling(text)]
        for path in _paths(module):
            if path.is_dir() and path != module.path.parent:
                found |= {file for file in path.rglob("*") if _is_data(file)}
            elif path.is_dir():
                there = [file for file in path.iterdir() if _is_data(file)]
                there = [f for f in there if {f.name, f.stem} & names or any(p.fullmatch(f.stem) for p in named)]
                found.update(there)
            elif path.is_file() and path.suffix != ".py":
                found.add(path)
    return sorted(found)


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix not in {".py", ".pyc"} and not path.name.startswith(".")


def _telling(pattern: str) -> bool:
    return len(re.sub(r"\W", "", pattern.replace("\0", ""))) >= 3


def _pattern(text: str) -> str:
    return ".*".join(map(re.escape, text.split("\0")))


def _paths(module: Module) -> set[Path]:
    """What the module's expressions that begin with `Path(__file__)` come to, as far as they are constant."""
    values: dict[str, Path] = {}
    for statement in module.tree.body:
        named = isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        if named and (path := _path(statement.value, module, values)) is not None:
            values[statement.targets[0].id] = path
    found, todo = set(values.values()), [*ast.iter_child_nodes(module.tree)]
    while todo:
        node = todo.pop()
        path = _path(node, module, values) if isinstance(node, ast.expr) else None
        if path is None:
            todo += ast.iter_child_nodes(node)
        else:
            found.add(path)
    return found


def _path(node: ast.expr, module: Module, values: dict[str, Path]) -> Path | None:
    match node:
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Call(args=[ast.Name(id="__file__")]):
            return module.path
        case ast.Call(func=ast.Attribute(value=value, attr="resolve" | "absolute")):
            return _path(value, module, values)
        case ast.Attribute(value=value, attr="parent"):
            inner = _path(value, module, values)
            return inner and inner.parent
        case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=str(name))):
            inner = _path(left, module, values)
            return inner and inner / name
    return None


# Source shown on the page


def _shown(packages: Packages, reach: Reach, trees: list[ast.Module], code: Code) -> dict[str, str]:
    """The text of what the notebook shows; of all it uses where it cannot be said what that is."""
    found = {}
    for tree in trees:
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            for argument in call.args if name in SHOWS else ():
                said = ast.unparse(argument)
                bare = any(k.arg == "docstring" and getattr(k.value, "value", 1) is False for k in call.keywords)
                text = _text(packages, argument, code, bare=bare)
                if text is None:
                    used = sorted(packages.module(name).text for name in reach.used | reach.own)
                    text = "\n".join(used)
                found[f"shown {said}"] = _hash([text, bare])
    return found


def _text(packages: Packages, node: ast.expr, code: Code, *, bare: bool) -> str | None:
    """The lines of the function or class that `node` names; None where that cannot be said."""
    names = ast.unparse(node).split(".")
    if not all(map(str.isidentifier, names)) or names[0] not in code.bindings:
        return None
    located = packages and Reach(packages).locate(code.bindings[names[0]], tuple(names[1:]))
    if not located or not located[1]:
        return None
    module, way = located
    body, node = module.tree.body, None
    for name in way:
        node = next((n for n in body if isinstance(n, DEFINITION) and n.name == name), None)
        if node is None:
            return None
        body = node.body
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = module.text.splitlines()[first - 1 : node.end_lineno]
    if not bare:
        return "\n".join(lines)
    comments = [line for line in lines if "#" in line]
    return ast.unparse(without_docstrings(ast.parse(ast.unparse(node)))) + "\n" + "\n".join(comments)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@functools.lru_cache(maxsize=4096)
def _digest_of(path: Path, modified: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file(path: Path) -> str:
    at = path.stat()
    return _digest_of(path, at.st_mtime_ns, at.st_size)
