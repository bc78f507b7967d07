"""Ways from one place of the book to another that no author writes: to an equation, from a paper to its chapters, A–Z.

Authors write "equation (5)" and link papers by their address, because that reads well in Colab and on GitHub too. The
site turns the number into a link, says below each paper where it is used, and lists the glossary's words by letter.
"""

import html
import re
from collections.abc import Callable, Iterable, Mapping

from docutils import nodes

BIBLIOGRAPHY, GLOSSARY = "bibliography", "glossary"
TAG = re.compile(r"\\tag\{(\w+)\}")
# "equation (5)", "equations (1)–(3)", "by (5)": a number in brackets that nothing announces may be any number.
CALLED = re.compile(
    r"(?:\b(?:equations?|by|in|of|like|for|from|to|and|or|fitted|minimise|computes|should)\s|[–-])\((\w+)\)", re.I
)
CITATION = re.compile(r'(<div class="citation" id="[^"]*">.*?)(</div>)', re.S)
ADDRESS = re.compile(r'href="(https?://[^"]+)"')
WORD = re.compile(r'<section id="([^"]+)">\s*<h3>(.*?)<a class="headerlink"', re.S)


def link_equations(doctree: nodes.document) -> None:
    """Give every numbered equation of a page an anchor, and make the numbers that prose calls it by links."""
    known = set()
    for block in list(doctree.findall(nodes.math_block)):
        for number in TAG.findall(block.astext()):
            anchor = nodes.target("", "", ids=[f"equation-{number}"])
            block.parent.insert(block.parent.index(block), anchor)
            known.add(number)
    for text in list(doctree.findall(nodes.Text)):
        if known and not closed(text):
            _link(text, known)


def closed(text: nodes.Text) -> bool:
    """Whether the text stands where a link cannot: in one, in code, in a formula, in a heading."""
    above = text.parent
    while above is not None:
        if isinstance(above, nodes.reference | nodes.literal | nodes.literal_block | nodes.math | nodes.math_block):
            return True
        if isinstance(above, nodes.title | nodes.raw | nodes.comment):
            return True
        above = above.parent
    return False


def _link(text: nodes.Text, known: set[str]) -> None:
    whole, at, parts = text.astext(), 0, []
    for match in CALLED.finditer(whole):
        if match[1] not in known:
            continue
        start = match.start(1) - 1  # with its bracket
        link = nodes.reference("", f"({match[1]})", internal=True, refid=f"equation-{match[1]}")
        parts += [nodes.Text(whole[at:start]), link]
        at = match.end()
    if parts:
        text.parent.replace(text, [*parts, nodes.Text(whole[at:])])


def addresses(doctree: nodes.document) -> set[str]:
    """Every address outside the site that a page links to, in one spelling."""
    return {_plain(link["refuri"]) for link in doctree.findall(nodes.reference) if "://" in link.get("refuri", "")}


def _plain(address: str) -> str:
    return re.sub(r"v\d+$", "", re.sub(r"^https?://(?:www\.|dx\.)?", "", html.unescape(address)).rstrip("/").lower())


def cite_back(body: str, used: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """The bibliography with the chapters that use a paper behind it; `used` maps an address to (href, title) pairs."""

    def back(match: re.Match) -> str:
        places = dict.fromkeys(place for link in ADDRESS.findall(match[1]) for place in used.get(_plain(link), ()))
        if not places:
            return match[0]
        links = ", ".join(f'<a class="reference internal" href="{href}">{title}</a>' for href, title in places)
        return f'{match[1]}<p class="book-cited">Used in {links}.</p>{match[2]}'

    return CITATION.sub(back, body)


def a_to_z(body: str) -> str:
    """The glossary with a list of all its words by letter before its first section."""
    letters: dict[str, list[str]] = {}
    for anchor, word in sorted(WORD.findall(body), key=lambda found: found[1].lower()):
        letters.setdefault(word[0].upper(), []).append(f'<a class="reference internal" href="#{anchor}">{word}</a>')
    rows = "".join(f"<li><b>{letter}</b> {', '.join(words)}</li>" for letter, words in letters.items())
    listed = f'<nav class="book-letters" aria-label="All words, A to Z"><ul>{rows}</ul></nav>'
    first = re.search(r'<section id="[^"]+">\s*<h2>', body)
    return body[: first.start()] + listed + body[first.start() :] if first and rows else body


def used_by(names: Iterable[str], doctree_of: Callable, place_of: Callable) -> dict[str, list[tuple[str, str]]]:
    """Which pages link to an address: `place_of` gives a page's href and title."""
    used: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        for address in sorted(addresses(doctree_of(name))):
            used.setdefault(address, []).append(place_of(name))
    return used
