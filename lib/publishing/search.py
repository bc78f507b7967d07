"""The index of the site's search: sections, exercises, figures, words of the glossary, sources, models, the library.

While a page is rendered, its parts are written to a file of their own, which the search fetches to quote from; when
all are there, MiniSearch makes the index of them, in the engine of the build. What counts as a word is decided
in `web/search-core.js`, which the page uses as well. All files are scripts, so that they load without a server too.
"""

import html
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from docutils import nodes

from .book import REFERENCE
from .engine import engine
from .files import write_text

CORE, MINISEARCH = "search-core.js", "vendor/minisearch/minisearch.js"
PAGES, INDEX = "search/pages", "search/index.js"  # below `_static`
SYNONYMS = Path(__file__).with_name("synonyms.yml")
GLOSSARY, BIBLIOGRAPHY = "glossary", "bibliography"
HAN = re.compile(r"[\u3400-\u9fff]")
FIGURE = re.compile(r'<figure\b[^>]*\bclass="llm-(?:figure|strip)\b[^>]*>.*?</figure>', re.S)
FIGURE_ID = re.compile(r'<figure\b[^>]*\bid="([^"]+)"')
SCRIPT = re.compile(r"<(script|style)\b.*?</\1>", re.S)
IDENTIFIER = re.compile(r"[A-Za-z_]\w{2,}")
MODEL = "A small language model of this book; it runs in your browser and shows how it decides."
SCALES = re.compile(r"^Quick:.*\bFull:")
# Letters and signs that a quoted formula shows; what is left of TeX is dropped.
SIGNS = {"\\\\": " ", "\\,": " ", "\\;": " ", "~": " "} | dict.fromkeys("{}&\\", "")
GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
]
COMMANDS = {
    **{name: chr(ord("α") + i) for i, name in enumerate(GREEK)},
    **dict(
        pi="π", rho="ρ", sigma="σ", tau="τ", phi="φ", varphi="φ", psi="ψ", omega="ω", Delta="Δ", Sigma="Σ", Theta="Θ"
    ),
    **dict(
        cdot="·", times="×", le="≤", ge="≥", ne="≠", approx="≈", sum="Σ", sqrt="√", infty="∞", to="→", pm="±", top="ᵀ"
    ),
    **dict(log="log", exp="exp", max="max", min="min", sin="sin", cos="cos", mid="|", ldots="…", dots="…"),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What can be found: a kind, a title, the fragment of the page where it stands, its prose and its code's names."""

    kind: str
    title: str
    at: str
    text: str
    code: str = ""


def collect(doctree: nodes.document, page: str, body: str, models: Iterable[tuple[str, str]] = ()) -> list[Entry]:
    """The entries of a page, from its document and its rendered `body`; `models` are (name, title) of a playground."""
    found = [_section(section, page) for section in doctree.findall(nodes.section)]
    if page == BIBLIOGRAPHY:
        cited = list(doctree.findall(nodes.citation))
        found += [Entry(kind="source", title=_title(one), at=one["ids"][0], text=_text(one.children)) for one in cited]
    found += [Entry(kind="model", title=title, at=f"model={name}", text=MODEL) for name, title in models]
    return found + [_figure(match[0]) for match in FIGURE.finditer(body)]


def number_figures(body: str) -> str:
    """The page with an id on each figure, which a result can lead to."""
    count = iter(range(1, 10_000))

    def named(match: re.Match) -> str:
        tag, _, inside = match[0].partition(">")
        return match[0] if FIGURE_ID.match(tag) else f'{tag} id="figure-{next(count)}">{inside}'

    return FIGURE.sub(named, body)


def write_page(static: Path, page: str, title: str, found: list[Entry]) -> None:
    """Write the entries of a page where the search fetches them, and the index finds them."""
    data = {"title": title, "entries": [vars(entry) for entry in found]}
    write_text(static / PAGES / f"{page}.js", f"bookSearch.texts[{json.dumps(page)}] =\n{_json(data)}\n")


def write_index(static: Path, pages: Iterable[str]) -> tuple[int, int]:
    """Make the index of all `pages` that have entries; returns how many entries it has and its size in bytes."""
    documents, known, glossary = [], [], []
    for page in pages:
        path = static / PAGES / f"{page}.js"
        if not path.is_file():
            continue
        data = json.loads(path.read_text(encoding="utf-8").partition("\n")[2])
        for number, entry in enumerate(data["entries"]):
            kind = "page" if number == 0 else entry["kind"]
            same = {"kind": kind, "page": data["title"] if number else "", "id": f"{len(known)}.{number}"}
            documents.append(entry | same | {"place": len(known)})
            if kind == "word":
                glossary.append((entry["title"], entry["text"]))
        known.append({"name": page, "title": data["title"]})
    made = json.loads(engine(static / MINISEARCH, static / CORE).call("bookSearch.make", documents))
    index = _json({"pages": known, "synonyms": synonyms(glossary), "index": made})
    script = f"bookSearch.load(JSON.parse({_quoted(index)}))\n"
    write_text(static / INDEX, script)
    return len(documents), len(script.encode())


def synonyms(glossary: Iterable[tuple[str, str]]) -> list[list[str]]:
    """What means the same: each word of the glossary and its Chinese, and the lists of `synonyms.yml`."""
    groups = []
    for title, text in glossary:
        chinese = text.partition(". ")[0]
        if not HAN.search(chinese):
            continue
        names, others = (re.split(r"[,、（(]", one.replace("）", "").replace(")", "")) for one in (title, chinese))
        if len(names) != len(others):
            names, others = [title], [chinese]
        groups += [[name.strip().lower(), other.strip()] for name, other in zip(names, others, strict=True)]
    written = yaml.safe_load(SYNONYMS.read_text(encoding="utf-8"))
    return [group for group in groups if group[0] != group[1]] + written


def _section(section: nodes.section, page: str) -> Entry:
    own = [child for child in section[1:] if not isinstance(child, nodes.section)]
    blocks = [block for child in own for block in child.findall(nodes.literal_block) if not _output(block)]
    names = dict.fromkeys(name for block in blocks for name in IDENTIFIER.findall(block.astext()))
    title, level, kind = _text([section[0]]), _level(section), "section"
    if title.startswith("Exercise "):
        kind = "exercise"
    elif title == "Sources":
        kind = "source"
    elif page == GLOSSARY and level == 3:
        kind = "word"
    elif page.startswith(f"{REFERENCE}/"):
        kind = "code"
    at = "" if level == 1 else section["ids"][0]
    return Entry(kind=kind, title=title, at=at, text=_text(own), code=" ".join(names))


def _level(section: nodes.section) -> int:
    level, parent = 1, section.parent
    while isinstance(parent, nodes.section):
        level, parent = level + 1, parent.parent
    return level


def _output(node: nodes.Element) -> bool:
    while node is not None and not isinstance(node, nodes.document):
        if "cell_output" in node.get("classes", []):
            return True
        node = node.parent
    return False


def _text(parts: Iterable[nodes.Node]) -> str:
    """The prose of `parts` in one line: no code, no outputs, no markup, formulas as plain signs."""
    pieces = []
    for part in parts:
        if _skipped(part):
            continue
        if isinstance(part, nodes.math | nodes.math_block):
            pieces.append(_plain(part.astext()))
        elif isinstance(part, nodes.Text):
            pieces.append(part.astext())
        else:
            inner = _text(part.children)
            if not SCALES.match(inner):
                pieces.append(inner if isinstance(part, nodes.Inline) else f"{inner} ")
    text = "".join(pieces)
    return " ".join(text.split()) if not _inline(parts) else text


def _inline(parts: Iterable[nodes.Node]) -> bool:
    return all(isinstance(part, nodes.Text | nodes.Inline | nodes.math) for part in parts)


def _skipped(part: nodes.Node) -> bool:
    if isinstance(part, nodes.literal_block | nodes.raw | nodes.comment | nodes.label | nodes.citation):
        return True
    return isinstance(part, nodes.Element) and bool({"cell", "cell_output"} & set(part.get("classes", [])))


def _plain(tex: str) -> str:
    tex = re.sub(r"\\(?:tag|begin|end)\{[^}]*\}", "", tex)
    tex = re.sub(r"\\([A-Za-z]+) ?", lambda match: COMMANDS.get(match[1], ""), tex)
    for sign, shown in SIGNS.items():
        tex = tex.replace(sign, shown)
    return " ".join(tex.split())


def _title(citation: nodes.citation) -> str:
    """Who wrote it, as the list of sources has it, up to the title's end."""
    text = _text(citation.children)
    return text if len(text) <= 90 else text[:88].rsplit(" ", 1)[0] + " …"


def _figure(markup: str) -> Entry:
    markup = SCRIPT.sub("", markup)

    def inside(pattern: str) -> str:
        match = re.search(pattern, markup, re.S)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", "", match[1])).split()) if match else ""

    title, caption = inside(r'<p class="llm-title">(.*?)</p>'), inside(r'class="llm-caption">(.*?)</')
    seen = inside(r'aria-label="([^"]*)"')
    at = FIGURE_ID.match(markup)
    return Entry(
        kind="figure", title=title or caption or seen, at=at[1] if at else "", text=f"{caption} {seen}".strip()
    )


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("\u2028", " ").replace("\u2029", " ")


def _quoted(text: str) -> str:
    """A JavaScript string: in single quotes, for JSON is full of the others."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
