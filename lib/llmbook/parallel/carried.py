"""A function for another process: by its address, or, where it was typed into a notebook, with all it needs.

A fresh process can import a module, but not the cell of a notebook. So a function of ``__main__`` travels as its
compiled code, together with what it names: modules by name, other functions of the notebook in the same way, anything
else by pickle.
"""

import builtins
import dis
import marshal
import pickle
import pkgutil
import types
from collections.abc import Callable
from typing import Any


def carry(fn: Callable[..., Any] | str) -> Any:
    """What ``fetch`` makes the function of, elsewhere. ``fn`` may be an address, "package.module:name".

    Raises ValueError for what cannot travel: a function inside another one, a lambda of a module, one that names a
    class of the notebook or a value that pickle refuses.
    """
    if isinstance(fn, str):
        return fn
    module, name = fn.__module__, fn.__qualname__
    if module == "__main__" and isinstance(fn, types.FunctionType):
        things: dict[str, tuple] = {}
        _add(fn.__name__, fn, things)
        return fn.__name__, things
    if module == "__main__" or "." in name or "<" in name:
        raise ValueError(
            f"{name} of {module} cannot be found by another process: define it at the top of a module that can be "
            "imported, or of the notebook"
        )
    return f"{module}:{name}"


def fetch(carried: Any) -> Callable[..., Any]:
    """The function that ``carry`` was given."""
    if isinstance(carried, str):
        return pkgutil.resolve_name(carried)
    name, things = carried
    space: dict[str, Any] = {"__builtins__": builtins, "__name__": "llmbook_notebook"}
    for key, (kind, thing) in things.items():
        if kind == "module":
            space[key] = pkgutil.resolve_name(thing)
        elif kind == "value":
            space[key] = pickle.loads(thing)
        else:
            code, defaults, by_name = thing
            space[key] = types.FunctionType(marshal.loads(code), space, key, pickle.loads(defaults))
            space[key].__kwdefaults__ = pickle.loads(by_name)
    return space[name]


def _add(key: str, thing: Any, things: dict[str, tuple]) -> None:
    if key in things:
        return
    if isinstance(thing, types.ModuleType):
        things[key] = "module", thing.__name__
    elif isinstance(thing, types.FunctionType) and thing.__module__ == "__main__":
        if thing.__closure__:
            raise ValueError(f"{key} is a function inside another one: define it at the top of the notebook")
        code = marshal.dumps(thing.__code__)
        things[key] = "function", (code, pickle.dumps(thing.__defaults__), pickle.dumps(thing.__kwdefaults__))
        for name in sorted(_names(thing.__code__)):
            if name in thing.__globals__:
                _add(name, thing.__globals__[name], things)
    elif getattr(thing, "__module__", None) == "__main__":
        raise ValueError(f"{key} belongs to the notebook and is no function: define it in a module to be imported")
    else:
        try:
            things[key] = "value", pickle.dumps(thing)
        except Exception as error:
            raise ValueError(f"{key} cannot travel to another process: {error}") from error


def _names(code: types.CodeType) -> set[str]:
    """The global names that a function reads, in functions inside it too."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return found.union(*(_names(part) for part in code.co_consts if isinstance(part, types.CodeType)))
