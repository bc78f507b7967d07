"""One Python file as the reach of a chapter sees it: what it imports, which names it uses, what it does when imported.

Nothing is imported or run here. Digests are of the syntax tree without docstrings, comments and positions, so that
words and layout count for nothing.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMPUTED = {"import_module", "__import__", "load_module", "run_module", "iter_modules", "walk_packages"}
DOCUMENTED = {"__doc__", "getdoc", "getsource", "getsourcelines", "getsourcefile"}  # code that reads code as text
DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
HARMLESS = {"cache", "lru_cache", "contextmanager", "dataclass", "no_grad", "overload", "runtime_checkable", "wraps"}


@dataclass(frozen=True)
class Binding:
    """What an import binds a name to: a module (``attribute`` is None), or an attribute of one."""

    module: str
    attribute: str | None = None


@dataclass
class Code:
    """What a piece of code needs from elsewhere."""

    bindings: dict[str, set[Binding]] = field(default_factory=dict)  # several where an import depends on something
    chains: set[tuple[str, ...]] = field(default_factory=set)  # ("model", "attention", "attend"), as they are written
    strings: set[str] = field(default_factory=set)
    arguments: set[str] = field(default_factory=set)  # those strings that a call is given
    patterns: set[str] = field(default_factory=set)  # f-strings, what is put in as \0
    loads: set[str] = field(default_factory=set)  # modules of `import a.b`
    stars: set[str] = field(default_factory=set)  # modules imported with *
    computed: bool = False  # imports what only its run knows
    documented: bool = False  # reads the text of code

    @functools.cached_property
    def uses(self) -> dict[str, set[tuple[str, ...]]]:
        """For each name, the ways it is gone on with; to be asked once all has been read."""
        found: dict[str, set[tuple[str, ...]]] = {}
        for chain in self.chains:
            found.setdefault(chain[0], set()).add(chain[1:])
        return found

    def bind(self, name: str, module: str, attribute: str | None = None) -> None:
        self.bindings.setdefault(name, set()).add(Binding(module, attribute))


def read_code(nodes: list[ast.stmt], module: str = "", *, package: bool = False) -> Code:
    """Everything in ``nodes``, functions included; ``module`` is where a relative import starts from."""
    code = Code()
    for statement in nodes:
        _visit(statement, code, module if package else module.rpartition(".")[0])
    return code


def _visit(node: ast.AST, code: Code, base: str) -> None:
    match node:
        case ast.If() if _for_types(node.test):
            for child in node.orelse:
                _visit(child, code, base)
            return
        case ast.Import():
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                code.bind(name, alias.name if alias.asname else name)
                code.loads.add(alias.name)
        case ast.ImportFrom():
            parts = base.split(".")
            up = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (up, node.module)))
            for alias in node.names:
                if alias.name == "*":
                    code.stars.add(source)
                else:
                    code.bind(alias.asname or alias.name, source, alias.name)
        case ast.Attribute() | ast.Name():
            chain, foot = _chain(node)
            if chain:
                code.chains.add(chain)
            code.computed |= bool(COMPUTED & set(chain)) or getattr(node, "attr", "") in COMPUTED
            code.documented |= bool(DOCUMENTED & set(chain)) or getattr(node, "attr", "") in DOCUMENTED
            if foot is not None:
                _visit(foot, code, base)
            return
        case ast.Call():
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            code.arguments |= {arg.value for arg in given if isinstance(getattr(arg, "value", None), str)}
        case ast.Constant(value=str()):
            code.strings.add(node.value)
        case ast.JoinedStr():
            parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
            code.patterns.add("".join(map(str, parts)))
    for child in ast.iter_child_nodes(node):
        _visit(child, code, base)


def _chain(node: ast.expr) -> tuple[tuple[str, ...], ast.expr | None]:
    """``a.b.c`` as its parts; for ``f(x).b`` no parts, and the expression it starts from."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ((node.id, *reversed(parts)), None) if isinstance(node, ast.Name) else ((), node)


def _for_types(test: ast.expr) -> bool:
    return (_chain(test)[0] or ("",))[-1] == "TYPE_CHECKING"


@dataclass(frozen=True)
class Module:
    """A parsed file of a package: its name, its path, its tree with and without docstrings."""

    name: str
    path: Path
    text: str

    @property
    def package(self) -> bool:
        return self.path.stem == "__init__"

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @functools.cached_property
    def stripped(self) -> ast.Module:
        """The tree without docstrings, unless the file itself reads them."""
        tree = ast.parse(self.text)
        return tree if read_code(tree.body).documented else without_docstrings(tree)

    @functools.cached_property
    def code(self) -> Code:
        """What the whole file needs."""
        return read_code(self.stripped.body, self.name, package=self.package)

    @functools.cached_property
    def own(self) -> Code:
        """What the file needs beside its imports: of an ``__init__``, what it defines itself."""
        return self._part(statement for statement in self.stripped.body if not _hands_on(statement))

    @functools.cached_property
    def at_import(self) -> Code:
        """What the file needs for what it does when it is imported (calls, changes of others), nothing in most."""
        return self._part(self.effects)

    @functools.cached_property
    def effects(self) -> list[ast.stmt]:
        """The statements that do something when the file is imported, beyond defining names."""
        return [statement for statement in self.stripped.body if _acts(statement)]

    @functools.cached_property
    def defined(self) -> set[str]:
        """The names the file defines itself, at its top level."""
        return {name for statement in self.stripped.body if not _hands_on(statement) for name in _names(statement)}

    @functools.cached_property
    def digest(self) -> str:
        return digest(self.stripped)

    @functools.cached_property
    def own_digest(self) -> str:
        """Of an ``__init__``: what it defines and does; which names it hands on is followed name by name."""
        kept = [statement for statement in self.stripped.body if not _hands_on(statement)]
        return digest(ast.Module(kept, []))

    def _part(self, statements: Iterator[ast.stmt] | list[ast.stmt]) -> Code:
        code = read_code(list(statements), self.name, package=self.package)
        code.bindings = self.code.bindings | code.bindings
        return code


def digest(tree: ast.AST) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def without_docstrings(tree: ast.Module) -> ast.Module:
    """``tree`` itself, changed."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *DEFINITION)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = node.body[1:]
    return tree


def _hands_on(statement: ast.stmt) -> bool:
    """Whether a statement only imports, or lists what is exported."""
    if isinstance(statement, ast.If) and _for_types(statement.test):
        return not statement.orelse
    return isinstance(statement, (ast.Import, ast.ImportFrom)) or "__all__" in _names(statement)


def _names(statement: ast.stmt) -> set[str]:
    """The names a top-level statement binds, those in its branches too."""
    if isinstance(statement, DEFINITION):
        return {statement.name}
    inside = list(ast.walk(statement))
    stored = {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.name for node in inside if isinstance(node, DEFINITION)}


def _acts(statement: ast.stmt) -> bool:
    """Whether a top-level statement may change something outside its own file.

    Defining does not, nor does giving a name to a value; a decorator or a metaclass might, and counts unless it is
    known to be harmless.
    """
    if isinstance(statement, DEFINITION):
        return bool(getattr(statement, "keywords", [])) or not all(map(_harmless, statement.decorator_list))
    if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Pass, ast.Assert)):
        return False
    if isinstance(statement, ast.If) and _for_types(statement.test):
        return any(map(_acts, statement.orelse))
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return any(isinstance(node, (ast.Attribute, ast.Subscript)) for t in targets for node in ast.walk(t))
    if isinstance(statement, ast.Try):
        return any(map(_acts, [*statement.body, *statement.orelse, *statement.finalbody]))
    return True


def _harmless(decorator: ast.expr) -> bool:
    return (_chain(decorator.func if isinstance(decorator, ast.Call) else decorator)[0] or ("",))[-1] in HARMLESS


@functools.lru_cache(maxsize=4096)
def parsed(name: str, path: Path, text: str) -> Module:
    """The module, parsed once for every text it ever had."""
    return Module(name, path, text)


def find_module(folder: Path, name: str) -> Path | None:
    """The file of ``a.b.c`` below ``folder``, which holds ``a``."""
    if not re.fullmatch(r"\w+(\.\w+)*", name):
        return None
    path = folder / name.replace(".", "/")
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None
