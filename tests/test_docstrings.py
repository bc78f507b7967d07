"""A public function that raises says so where its reader looks: in its docstring, or in that of its class."""

import ast
import re
from pathlib import Path

LIB = Path(__file__).parents[1] / "lib" / "llmbook"
NOT_FOR_CALLERS = ("NotImplementedError", "StopIteration", "SystemExit")  # protocols of Python, not complaints


def raised(function):
    """The exceptions that the function's own lines raise by name, not those of what it calls or defines."""
    found, waiting = [], list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.append(ast.unparse(node.exc.func).rsplit(".", 1)[-1])
        waiting.extend(ast.iter_child_nodes(node))
    return [name for name in found if name[0].isupper() and name not in NOT_FOR_CALLERS]


def public_functions(body, owner=None):
    """The functions, and the methods with their class, whose names begin with no underscore or with two."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, node)
        elif isinstance(node, ast.FunctionDef) and not re.match(r"_(?!_)", node.name):
            yield node, owner


def unsaid(source):
    """``line name`` of the public functions in ``source`` whose words name neither raising nor what is raised."""
    for function, owner in public_functions(ast.parse(source).body):
        said = " ".join(ast.get_docstring(node) or "" for node in (function, owner) if node is not None)
        errors = raised(function)
        if errors and not re.search(r"\b(?:raise|" + "|".join(errors) + ")", said, re.IGNORECASE):
            yield f"{function.lineno} {function.name}"


def test_every_public_function_that_raises_says_so():
    """Catches an error that no docstring announces: its reader meets it first when it is raised."""
    files = sorted(LIB.rglob("*.py"))
    assert len(files) > 100
    found = [f"{path.relative_to(LIB)}:{name}" for path in files for name in unsaid(path.read_text(encoding="utf-8"))]
    assert not found, "no word of what these raise, and when, in their docstring or their class's: " + ", ".join(found)


def test_the_check_sees_and_spares():
    """Catches a check that lets everything pass, or that complains of helpers, closures and Python's protocols."""
    source = '''
def bare(x):
    if x:
        raise ValueError("x")

def said(x):
    """Raises ValueError for x."""
    raise ValueError("x")

def _helper(x):
    raise ValueError("x")

def maker():
    def inner():
        raise ValueError("later")
    return inner

class Thing:
    """A thing. Raises ValueError if it has no name."""
    def __init__(self, name):
        raise ValueError("name")

class Silent:
    """A thing."""
    def __init__(self, name):
        raise ValueError("name")
    def todo(self):
        raise NotImplementedError("a subclass does it")
'''
    assert [line.split()[1] for line in unsaid(source)] == ["bare", "__init__"]
