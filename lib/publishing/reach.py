"""What a piece of code can reach: the modules of our own packages it uses, and the files those read.

Imports are followed name by name: `from llmbook.model import attend` leads through the package's `__init__` to the
module that defines `attend`, and from there on through that module's imports. Importing a package runs its `__init__`
and with it the imports of every module beside; of a module that is imported and not used only counts what it does at
that moment, a call or a change of another (nothing, in nearly all). Where the text leaves open what happens, more is
taken and never less: a package used as a value, a name not found, an import by a computed name reach all they might.

What still escapes (a name put together at run time, a file opened by one) is seen by witness.py while the code runs.
"""

import ast
import contextlib
import functools
import re
from collections.abc import Iterable
from pathlib import Path

from .modules import Binding, Code, Module, find_module, parsed, read_code, without_docstrings

NAMED = re.compile(r"(?:^|-m\s+)([A-Za-z_]\w*(?:\.\w+)+)(?=:\w+$|$|\s)")  # alone in a string, or after `python -m`


class Packages:
    """The packages whose files belong to us, and where they lie: `{"llmbook": root / "lib"}`."""

    def __init__(self, folders: dict[str, Path]):
        self.folders = folders
        self._found: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """The module of that name, parsed; None for one that is not ours, or is not there."""
        if name not in self._found:
            top = self.folders.get(name.partition(".")[0])
            path = find_module(top, name) if top else None
            self._found[name] = parsed(name, path, path.read_text(encoding="utf-8")) if path else None
        return self._found[name]

    @functools.cached_property
    def names(self) -> list[str]:
        """Every module there is, by name."""
        found = []
        for top, folder in self.folders.items():
            for path in sorted((folder / top).rglob("*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        return found

    def below(self, name: str) -> Iterable[str]:
        return (other for other in self.names if other == name or other.startswith(f"{name}."))


class Reach:
    """What `code` can reach in `packages`. Add more with `follow`; then read `used`, `loaded` and `bound`."""

    def __init__(self, packages: Packages, code: Code | None = None):
        self.packages = packages
        self.used: set[str] = set()  # modules whose code may run, or whose values may be read
        self.loaded: set[str] = set()  # modules that are imported, used or not
        self.own: set[str] = set()  # packages whose own definitions are used
        self.bound: dict[str, str] = {}  # "llmbook.model.attend" -> the module it was found in
        self.everything = False
        if code:
            self.follow(code)

    def follow(self, code: Code, *, only: bool = False) -> None:
        """Take what `code` needs; with `only`, of its imports those that its chains of names begin with."""
        if code.computed:
            self._all()
        for name in code.loads:
            self._module(name)
        for name in code.stars:
            self._whole(name)
        for name, bindings in code.bindings.items():
            chains = code.uses.get(name, set())
            for binding in bindings if chains or not only else ():
                self._binding(binding, chains)
        for text in code.strings | code.patterns:
            self._string(text)

    def locate(self, bindings: set[Binding], rest: tuple[str, ...]) -> tuple[Module, tuple[str, ...]] | None:
        """The module that defines what a name leads to, and the way inside it; None where that cannot be said."""
        if len(bindings) != 1:
            return None
        (binding,) = bindings
        module = self.packages.module(binding.module)
        way = tuple(filter(None, (binding.attribute,))) + rest
        while module and module.package and way:
            if way[0] in module.defined:
                break
            if onward := self._onward(module, way[0]):
                return self.locate(onward, way[1:])
            module, way = self.packages.module(f"{module.name}.{way[0]}"), way[1:]
        return (module, way) if module else None

    @staticmethod
    def _onward(package: Module, name: str) -> set[Binding]:
        """What an `__init__` binds `name` to: nothing where it only names one of its own modules."""
        return package.code.bindings.get(name, set()) - {Binding(package.name, name)}

    def _binding(self, binding: Binding, chains: set[tuple[str, ...]]) -> None:
        """An imported name, and the attributes it is used with."""
        if binding.attribute is None:
            if chains:
                self._chains(binding.module, chains)
            else:
                self._module(binding.module)
        elif self.packages.module(f"{binding.module}.{binding.attribute}") and not self._hides(binding):
            self._load(binding.module)
            self._chains(f"{binding.module}.{binding.attribute}", chains)
        else:
            self._name(binding.module, binding.attribute, chains)

    def _hides(self, binding: Binding) -> bool:
        """Whether a package binds a name that one of its modules has too, as `inference.generate` does."""
        package = self.packages.module(binding.module)
        return bool(package) and (
            binding.attribute in package.defined or bool(self._onward(package, binding.attribute))
        )

    def _chains(self, name: str, chains: set[tuple[str, ...]]) -> None:
        """Attributes of a module or package: each is followed, and a use of the thing itself takes all of it."""
        module = self.packages.module(name)
        if not module:
            return
        if not module.package:
            self._use(name)
            return
        self._load(name)
        for chain in chains:
            if chain:
                self._binding(Binding(name, chain[0]), {chain[1:]})
            else:
                self._whole(name)

    def _name(self, module: str, attribute: str, chains: set[tuple[str, ...]]) -> None:
        """One name of a module."""
        found = self.packages.module(module)
        if not found:
            self._load(module)
            return
        if not found.package:
            self._use(module)
            return
        self._load(module)
        onward = self._onward(found, attribute)
        if attribute in found.defined:
            self._own(module)
        for binding in onward:
            self.bound[f"{module}.{attribute}"] = ", ".join(sorted(map(str, onward)))
            self._binding(binding, chains)
        if not onward and attribute not in found.defined:
            self._whole(module)  # a name we cannot follow

    def _module(self, name: str) -> None:
        """`import a.b`: a module may be used, a package is only loaded."""
        found = self.packages.module(name)
        if found and not found.package:
            self._use(name)
        else:
            self._load(name)

    def _use(self, name: str) -> None:
        if name in self.used:
            return
        self.used.add(name)
        self._load(name)
        self.follow(self.packages.module(name).code)

    def _own(self, name: str) -> None:
        if name not in self.own:
            self.own.add(name)
            self.follow(self.packages.module(name).own, only=True)

    def _load(self, name: str) -> None:
        """Import a module and the packages above it, and take what they do at that moment."""
        for depth in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:depth])
            module = self.packages.module(part)
            if not module or part in self.loaded:
                continue
            self.loaded.add(part)
            code = module.code
            for binding in (one for several in code.bindings.values() for one in several):
                self._load(binding.module)
                if binding.attribute:
                    self._load(f"{binding.module}.{binding.attribute}")
            for other in code.loads | code.stars:
                self._load(other)
            if module.effects:
                self._use(part) if not module.package else self.follow(module.at_import, only=True)

    def _whole(self, name: str) -> None:
        """A module, or everything in a package."""
        for part in list(self.packages.below(name)):
            if part.endswith(".__main__"):
                continue
            module = self.packages.module(part)
            self._load(part)
            self._own(part) if module.package else self._use(part)

    def _all(self) -> None:
        if not self.everything:
            self.everything = True
            for top in self.packages.folders:
                self._whole(top)

    def _string(self, text: str) -> None:
        """Code may be kept in a string, and a module may be named in one."""
        if not any(top in text for top in self.packages.folders):
            return
        if "import" in text:
            with contextlib.suppress(SyntaxError):
                self.follow(read_code(without_docstrings(ast.parse(text)).body))
        for match in NAMED.findall(text):
            names = match.split(".")
            depth = len(names)
            while depth and not self.packages.module(".".join(names[:depth])):
                depth -= 1
            if not depth or (depth == 1 and names[0] not in self.packages.folders):
                continue
            name = ".".join(names[:depth])
            module = self.packages.module(name)
            if not module.package:
                self._use(name)
            elif depth < len(names):
                self._name(name, names[depth], {tuple(names[depth + 1 :])})
            elif self.packages.module(f"{name}.__main__"):
                self._use(f"{name}.__main__")
            else:
                self._whole(name)
