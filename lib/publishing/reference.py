"""The reference of the library: a page for each of its packages, written from the docstrings when the site is built.

griffe reads the sources without importing them, so nothing heavy is loaded, and a page changes only when its package
does. Every public name has its signature, its docstring, a link to its lines in the repository and to the chapters
that use it. Public is what a package exports, and what a chapter imports from one of its modules.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import relpath

import griffe

from . import notebooks
from .book import REFERENCE, Book, BookError
from .signatures import formatted, members
from .uses import PACKAGE, used_names

BREAK = "\u200b"  # where a long heading may be broken on a phone: a space of no width
MANY = 6  # chapters named under what they use; a helper of every chapter would fill the page with them
ROLE = re.compile(r":(?:func|meth|class|mod|data):`~?([\w.]+)`")
WORD = re.compile(r"``([A-Za-z_][\w.]*?)(\(\))?``")
ADDRESS = re.compile(r"(?<!\]\()(?<![<`\"])\bhttps?://[^\s<>)\]`]+[^\s<>)\]`.,;:]")
INTRODUCTION = """\
# Reference

Every public name of `llmbook`, the library of this book, with its signature, its documentation, its source and the
chapters that use it. What a package is for stands at the top of its page; a chapter is the better place to learn an
idea, this is the place to look up an argument.

Shapes have one legend throughout: B batch, T query length, S key length, H query heads, Hk key and value heads,
D head width, C model width, F feed-forward width, V vocabulary size, L layers. `Float[Tensor, "B T C"]` is a tensor of
floating-point numbers with these axes.

| package | what it holds | names |
|---|---|--:|
"""


def pages(book: Book) -> dict[str, str]:
    """Markdown for every document of the reference, by its name in `_toc.yml`. Raises BookError where they disagree."""
    library = _Library(book)
    made = {f"{REFERENCE}/{name}": library.page(name) for name in library.packages}
    made[f"{REFERENCE}/index"] = library.index()
    listed = {name for name in book.toc if book.is_generated(name) and name.startswith(f"{REFERENCE}/")}
    if lost := sorted(made.keys() - listed):
        raise BookError(f"_toc.yml does not list {', '.join(lost)}: add them beside {REFERENCE}/index.")
    if idle := sorted(listed - made.keys()):
        raise BookError(f"_toc.yml lists {', '.join(idle)}, and the library has no such package.")
    return made


class _Library:
    """The sources as griffe sees them, and where each public name stands in the reference."""

    def __init__(self, book: Book):
        self.book = book
        logging.getLogger("griffe").setLevel(logging.CRITICAL)  # it would like every argument on a line of its own
        options = {"returns_named_value": False, "returns_multiple_items": False}
        self.root = griffe.load(
            PACKAGE,
            search_paths=[str(book.root / "lib")],
            docstring_parser="google",
            docstring_options=options,
            resolve_aliases=True,
        )
        self.uses = self._uses()
        modules = {name: member for name, member in sorted(self.root.members.items()) if member.is_module}
        self.names = {name: objects for name, module in modules.items() if (objects := self._public(module))}
        self.packages = {name: modules[name] for name in self.names}
        self.places = {obj.path: name for name, objects in self.names.items() for obj in objects}
        self.signatures = formatted(self._with_members())

    def index(self) -> str:
        rows = [
            f"| [`{name}`]({name}.md) | {self._linked(_first_sentence(module), name)} | {len(self.names[name])} |"
            for name, module in self.packages.items()
        ]
        return INTRODUCTION + "\n".join(rows) + "\n"

    def page(self, name: str) -> str:
        """A package: its own words, then its modules, each with what is public in it."""
        package, objects = self.packages[name], self.names[name]
        parts = [f"# {PACKAGE}.{BREAK}{name}", self._text(package, name)]
        for module in dict.fromkeys(obj.module for obj in objects):
            if module is not package:
                inside = module.path.removeprefix(f"{package.path}.")
                parts += [f"## {inside.replace('.', f'.{BREAK}')}", self._text(module, name)]
            for obj in sorted((obj for obj in objects if obj.module is module), key=lambda obj: obj.lineno):
                level = "##" if module is package else "###"
                parts += [f"{level} {_heading(obj)}", *self._entry(obj, name)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _entry(self, obj: griffe.Object, page: str) -> Iterator[str]:
        yield f"```python\n{self.signatures[obj.path]}\n```"
        yield self._text(obj, page)
        if obj.is_class:
            if "__init__" in obj.members and not obj.members["__init__"].is_alias:
                yield self._text(obj.members["__init__"], page)
            yield "\n\n".join(self._member(member, page) for member in members(obj))
        links = [f"[Source]({self._source(obj)})"]
        if chapters := self.uses.get(obj.path):
            more = f" and {len(chapters) - MANY} more" if len(chapters) > MANY else ""
            links.append(f"used in {', '.join(chapters[:MANY])}{more}")
        yield " · ".join(links)

    def _member(self, member: griffe.Object, page: str) -> str:
        """A method as an entry of a definition list: its signature, and below it what it says."""
        text = "\n\n".join([f"```python\n{self.signatures[member.path]}\n```", self._text(member, page)]).strip()
        indented = "\n".join(f"  {line}" if line else "" for line in text.splitlines())
        return f"`{member.name}`\n: {indented.strip()}"

    def _text(self, obj: griffe.Object, page: str) -> str:
        """The docstring in Markdown, its sections as lists."""
        if not obj.docstring:
            return ""
        return "\n\n".join(self._section(section, page) for section in obj.docstring.parsed).strip()

    def _section(self, section: griffe.DocstringSection, page: str) -> str:
        if section.kind.value in ("text", "examples", "admonition"):
            text = section.value if isinstance(section.value, str) else getattr(section.value, "description", "")
            return self._linked(text, page)
        lines = []
        for item in section.value:
            name = getattr(item, "name", None) or (item.annotation if section.kind.value == "raises" else None)
            words = self._linked(" ".join(item.description.split()), page)
            lines.append(f"- `{name}`: {words}" if name else f"- {words}")
        title = {"parameters": "Arguments"}.get(section.kind.value, section.kind.value.capitalize())
        return f"**{title}**\n\n" + "\n".join(lines)

    def _linked(self, text: str, page: str) -> str:
        """Names of the library as links, addresses as links, and of reStructuredText nothing else."""
        text = ADDRESS.sub(r"<\g<0>>", ROLE.sub(r"``\1``", text)).replace("::\n", ":\n")
        return WORD.sub(lambda match: self._link(match, page), text)

    def _link(self, match: re.Match, page: str) -> str:
        """A name in a docstring as a link to its entry, where one entry alone is called so."""
        name, code = match[1].removeprefix(f"{PACKAGE}."), f"`{match[1]}{match[2] or ''}`"
        if name in self.packages and name != page:
            return f"[{code}]({name}.md)"
        found = [path for path in self.places if path.endswith(f".{name}")]
        found = [path for path in found if self.places[path] == page] or found
        if len(found) != 1:
            return code
        return f"[{code}]({self.places[found[0]]}.md#{_anchor(self._resolve(found[0]))})"

    def _source(self, obj: griffe.Object) -> str:
        url, name = self.book.address[0], self.book.name(Path(obj.filepath))
        return f"{url}/blob/{self.book.ref}/{name}#L{obj.lineno}-L{obj.endlineno}"

    def _uses(self) -> dict[str, list[str]]:
        """The path of an object -> links to the notebooks that import it, in the order of the book."""
        uses: dict[str, list[str]] = {}
        for path, names in used_names(self.book).items():
            title = notebooks.title(notebooks.read(path))
            link = f"[{title}]({relpath(self.book.name(path), REFERENCE)})"
            for found in dict.fromkeys(obj.path for name in names if (obj := self._resolve(name))):
                uses.setdefault(found, []).append(link)
        return uses

    def _resolve(self, name: str) -> griffe.Object | None:
        """The class, function or constant behind a dotted name, wherever it is defined; None for anything else.

        What a package imports comes before a module of the same name, as it does in Python.
        """
        owner, _, last = name.rpartition(".")
        try:
            module = self.root[owner.split(".", 1)[1]] if "." in owner else self.root
        except KeyError:
            return None
        if not module.is_module:
            return None
        if (imported := module.imports.get(last, name)) != name:
            return self._resolve(imported) if imported.startswith(f"{PACKAGE}.") else None
        found = module.members.get(last)
        return found if found and not found.is_alias and not found.is_module else None

    def _public(self, package: griffe.Module) -> list[griffe.Object]:
        """What a package and those inside it export, and what chapters import from its modules."""
        found = [name for name in self.uses if name.startswith(f"{package.path}.")]
        for module in _packages(package):
            own = [m.name for m in module.members.values() if not m.is_alias and (m.is_class or m.is_function)]
            names = module.exports or [name for name in own if not name.startswith("_")]
            found += [f"{module.path}.{name}" for name in map(str, names)]
        objects = {obj.path: obj for name in found if (obj := self._resolve(name))}
        here = [obj for path, obj in objects.items() if path.startswith(f"{package.path}.")]
        return sorted(here, key=lambda obj: (obj.module is not package, obj.module.path, obj.lineno))

    def _with_members(self) -> Iterator[griffe.Object]:
        for objects in self.names.values():
            for obj in objects:
                yield obj
                yield from members(obj) if obj.is_class else ()


def _packages(package: griffe.Module) -> Iterator[griffe.Module]:
    """The package itself and every package inside it."""
    yield package
    for member in package.members.values():
        if not member.is_alias and member.is_module and member.is_init_module:
            yield from _packages(member)


def _heading(obj: griffe.Object) -> str:
    return f"class {obj.name}" if obj.is_class else obj.name


def _anchor(obj: griffe.Object) -> str:
    return _heading(obj).lower().replace(" ", "-")


def _first_sentence(obj: griffe.Object) -> str:
    """The first paragraph of the docstring on one line, for a table."""
    return " ".join(obj.docstring.value.split("\n\n")[0].split()) if obj.docstring else ""
