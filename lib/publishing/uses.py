"""Which names of the library each notebook imports, read from its code cells without running them."""

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from . import notebooks
from .book import Book

PACKAGE = "llmbook"


def used_names(book: Book) -> dict[Path, list[str]]:
    """For every notebook the dotted names that it imports from the library or reaches through an imported module.

    They are as written (`llmbook.model.attend`), duplicates left out, in the order of their first appearance.
    """
    return {path: _names(path) for path in book.notebooks}


def _names(path: Path) -> list[str]:
    trees = [tree for cell in notebooks.code_cells(notebooks.read(path)) if (tree := _parsed(cell.source))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    bound = dict(pair for node in nodes for pair in _bindings(node))
    reached = [name for node in nodes if (name := _dotted(node, bound))]
    return list(dict.fromkeys([*bound.values(), *reached]))


def _parsed(source: str) -> ast.AST | None:
    """The cell as Python sees it; None for one of magics, which imports nothing of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # a backslash in a string: the cell's own affair
        try:
            return ast.parse(source)
        except SyntaxError:
            return None


def _bindings(node: ast.AST) -> Iterator[tuple[str, str]]:
    """A name of the notebook and what of the library it stands for."""
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
        yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == PACKAGE:
                yield (alias.asname, alias.name) if alias.asname else (PACKAGE, PACKAGE)


def _dotted(node: ast.AST, bound: dict[str, str]) -> str | None:
    """`figures.bars` as `llmbook.figures.bars` where `figures` was imported from the library."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([bound[node.id], *parts]) if parts and isinstance(node, ast.Name) and node.id in bound else None
