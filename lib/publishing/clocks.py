"""What a chapter takes from a clock, followed to where it must not arrive: an assertion, or a checked output.

A machine that is busy, or slow, must not make a chapter fail. The cells are read in their order, as they would run:
a name that is given something measured is measured, until it is given something else; so is a collection that gets a
measured member, and a function that returns one.
"""

import ast
from collections.abc import Iterator

CLOCKS = {
    "time": {"time", "time_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "monotonic"}
    | {"monotonic_ns", "thread_time", "thread_time_ns"},
    "timeit": {"timeit", "repeat", "default_timer"},
    "datetime": {"now", "today", "utcnow"},
    "llmbook.training.autotune": {"compare"},
}
DATES = {"datetime", "date"}  # classes of datetime whose methods are clocks
MEASURED = frozenset({"seconds", "elapsed_time", "total_seconds", "blocked_autorange"})  # attributes that hold a time
FILLS = {"append", "extend", "insert", "add", "update", "setdefault", "appendleft"}


class Clocks:
    """Reads the cells of one notebook in order, and knows which names are measured so far."""

    def __init__(self, measured: frozenset[str] = MEASURED) -> None:
        self.attributes = measured
        self.names: set[str] = set()
        self.modules: set[str] = set()  # names that stand for a module with clocks
        self.functions: set[str] = set()  # names that are clocks themselves

    def read(self, tree: ast.Module, *, checked: bool) -> Iterator[str]:
        """Go through one cell; every place where a measured value arrives, told as source."""
        yield from self._body(tree.body, checked=checked)
        last = tree.body[-1] if tree.body else None
        if checked and isinstance(last, ast.Expr) and not _call(last.value) and self.measured(last.value):
            yield f"shows {ast.unparse(last)}"

    def measured(self, node: ast.AST | None) -> bool:
        """Whether an expression depends on a clock."""
        hidden = self._hidden(node) if node else set()
        for part in ast.walk(node) if node else ():
            if isinstance(part, ast.Name) and part.id in self.names - hidden:
                return True
            if isinstance(part, ast.Attribute) and part.attr in self.attributes:
                return True
            if isinstance(part, ast.Call) and self._is_clock(part.func):
                return True
        return False

    def _hidden(self, node: ast.AST) -> set[str]:
        """Names that a comprehension or a lambda inside `node` binds to something not measured."""
        found = set()
        for part in ast.walk(node):
            if isinstance(part, ast.comprehension) and not self.measured(part.iter):
                found |= {name.id for name in ast.walk(part.target) if isinstance(name, ast.Name)}
            if isinstance(part, ast.Lambda):
                found |= _parameters(part.args)
        return found

    def _is_clock(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Name):
            return function.id in self.functions
        if not isinstance(function, ast.Attribute):
            return False
        base = ast.unparse(function.value).split(".")[0]
        known = set().union(*CLOCKS.values())
        return base in self.modules and function.attr in known

    def _body(self, statements: list[ast.stmt], *, checked: bool) -> Iterator[str]:
        for statement in statements:
            yield from self._statement(statement, checked=checked)

    def _statement(self, node: ast.stmt, *, checked: bool) -> Iterator[str]:
        for part in ast.walk(getattr(node, "test", None) or getattr(node, "value", None) or ast.Pass()):
            if isinstance(part, ast.NamedExpr):
                self._give(part.target, part.value)
        match node:
            case ast.Import():
                self.modules |= {a.asname or a.name.partition(".")[0] for a in node.names if a.name in CLOCKS}
            case ast.ImportFrom():
                found = {a.asname or a.name: a.name for a in node.names}
                self.functions |= {name for name, of in found.items() if of in CLOCKS.get(node.module or "", ())}
                self.modules |= {name for name, of in found.items() if node.module == "datetime" and of in DATES}
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                inner = Clocks(self.attributes)
                inner.names, inner.modules = self.names - _parameters(node.args), self.modules
                inner.functions = self.functions
                yield from inner._body(node.body, checked=checked)
                answers = [part.value for part in ast.walk(node) if isinstance(part, (ast.Return, ast.Yield))]
                self._bind(ast.Name(node.name), any(map(inner.measured, answers)))
            case ast.ClassDef():
                yield from self._body(node.body, checked=checked)
            case ast.Assert():
                if self.measured(node.test):
                    yield f"asserts {ast.unparse(node.test)}"
            case ast.Assign() | ast.AnnAssign():
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    self._give(target, node.value)
            case ast.AugAssign():
                if self.measured(node.value):
                    self._bind(node.target, True)
            case ast.For() | ast.AsyncFor():
                for _ in range(2):  # what the end of the body measures, its beginning sees in the next round
                    self._loop(node)
                    found = list(self._body([*node.body, *node.orelse], checked=checked))
                yield from found
            case ast.While() | ast.If():
                for _ in range(2 if isinstance(node, ast.While) else 1):
                    found = list(self._body([*node.body, *node.orelse], checked=checked))
                yield from found
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    if item.optional_vars is not None:
                        self._give(item.optional_vars, item.context_expr)
                yield from self._body(node.body, checked=checked)
            case ast.Try():
                handled = [statement for handler in node.handlers for statement in handler.body]
                yield from self._body([*node.body, *handled, *node.orelse, *node.finalbody], checked=checked)
            case ast.Expr(value=ast.Call() as call):
                yield from self._called(call, checked=checked)

    def _called(self, call: ast.Call, *, checked: bool) -> Iterator[str]:
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if not any(map(self.measured, given)):
            return
        if isinstance(call.func, ast.Attribute) and call.func.attr in FILLS:
            self._bind(call.func.value, True)
        elif checked and isinstance(call.func, ast.Name) and call.func.id in {"print", "display"}:
            yield f"prints {next(ast.unparse(part) for part in given if self.measured(part))}"

    def _loop(self, node: ast.For | ast.AsyncFor) -> None:
        """Bind what a loop goes through; of a table that is written out, each column by itself."""
        rows = node.iter.elts if isinstance(node.iter, (ast.Tuple, ast.List)) else []
        if isinstance(node.target, ast.Tuple) and rows and all(isinstance(row, ast.Tuple) for row in rows):
            for target, *column in zip(node.target.elts, *(row.elts for row in rows), strict=False):
                self._bind(target, any(map(self.measured, column)))
        else:
            self._bind(node.target, self.measured(node.iter))

    def _give(self, target: ast.expr, value: ast.expr | None) -> None:
        """`target = value`, each name with its own part where both are tuples of one length."""
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, part in zip(target.elts, value.elts, strict=True):
                self._give(one, part)
        else:
            self._bind(target, self.measured(value))

    def _bind(self, target: ast.expr, measured: bool) -> None:
        """A name becomes measured or stops being so; a collection only becomes so, by its members."""
        if isinstance(target, ast.Name):
            (self.names.add if measured else self.names.discard)(target.id)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self._bind(part, measured)
        elif measured:
            while isinstance(target, (ast.Attribute, ast.Subscript, ast.Starred)):
                target = target.value
            self._bind(target, True)


def _call(node: ast.expr) -> bool:
    return isinstance(node, ast.Call)


def _parameters(arguments: ast.arguments) -> set[str]:
    return {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
