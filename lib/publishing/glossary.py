"""Words and symbols explained where they are used: a link to an entry of the glossary or to a section of the notation
carries the entry's text, which glossary.js shows beside the link and screen readers read with it.

The text lies in the page: nothing is fetched, and a page that is kept has it. Authors link what they like; the first
use of each of the glossary's words in a chapter is linked by the build.
"""

import html
import re
from collections.abc import Mapping

from docutils import nodes

from .references import closed

PAGES = ("glossary", "notation")
LINK = re.compile(
    r'<a class="(?P<classes>[^"]*)" href="(?P<path>[^"#]*?)(?P<page>glossary|notation)\.html#(?P<at>[^"]+)"'
)
TERM = re.compile(r"^### (.+)$", re.M)
# Entries whose heading is not what a text says.
SAID = {"Query, key, value": "quer(?:y|ies)", "Ranking (AUC)": "AUC", "Fine-tuning": "fine-tun(?:e|ed|ing)"}
CHINESE = re.compile(r"<em>([^<]*[\u3400-\u9fff][^<]*)</em>")


def words(text: str) -> dict[str, str]:
    """For each entry of the glossary's Markdown its anchor, with a pattern of the words that stand for it."""
    return {anchor(term): SAID.get(term, f"{re.escape(term)}s?") for term in TERM.findall(text)}


def anchor(term: str) -> str:
    """As GitHub and MyST make one of a heading."""
    return re.sub(r"[^\w\- ]", "", term.lower()).replace(" ", "-")


def link_words(doctree: nodes.document, terms: Mapping[str, str], page: str) -> None:
    """Link the first use of each of ``terms`` in a chapter's prose to its entry on ``page``, unless its author did.

    Longer terms come first, so that "language model" is no "model"; headings, code, formulas, what a cell shows, names
    of papers and what is a link already are left as they are.
    """
    waiting = dict(sorted(terms.items(), key=lambda item: -len(item[1])))
    for node in list(doctree.findall(lambda one: isinstance(one, nodes.Text | nodes.reference))):
        if isinstance(node, nodes.reference):
            waiting.pop((node.get("refuri") or "").partition("glossary.html#")[2], None)
        elif waiting and not closed(node) and not _shown_or_named(node):
            _link_in(node, waiting, page)


def _shown_or_named(text: nodes.Text) -> bool:
    """Whether the text is a cell's output, stands in italics (the name of a paper) or in no paragraph."""
    above, paragraph = text.parent, False
    while above is not None:
        if isinstance(above, nodes.emphasis | nodes.thead) or above.get("nb_element"):
            return True
        paragraph |= isinstance(above, nodes.paragraph)
        above = above.parent
    return not paragraph


def _link_in(text: nodes.Text, waiting: dict[str, str], page: str) -> None:
    """Replace the text by itself with links; what has been linked waits no longer."""
    whole, at, parts = text.astext(), 0, []
    names = {f"g{i}": name for i, name in enumerate(waiting)}
    pattern = "|".join(f"(?P<{group}>{waiting[name]})" for group, name in names.items())
    for match in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", whole, re.IGNORECASE):
        name = names[match.lastgroup]
        if waiting.pop(name, None) is None:
            continue
        uri = f"{page}#{name}"
        link = nodes.reference("", "", nodes.inline("", match[0]), internal=True, refuri=uri)
        parts += [nodes.Text(whole[at : match.start()]), link]
        at = match.end()
    if parts:
        text.parent.replace(text, [*parts, nodes.Text(whole[at:])])


def explain(app, body: str) -> str:
    """The page `body` with the entries that its links lead to, each once, at its end."""
    used = {}

    def described(link: re.Match) -> str:
        entry = f"{link['page']}#{link['at']}"
        if entry not in used:
            used[entry] = _entry(app, link["page"], html.unescape(link["at"]))
        if used[entry] is None:
            return link[0]
        name = f"entry-{link['page']}-{link['at']}"
        return link[0].replace('class="', f'aria-describedby="{name}" class="entry-link ', 1)

    body = LINK.sub(described, body)
    shown = [
        f'<div class="entry" role="tooltip" popover="manual" id="entry-{name.replace("#", "-")}">{text}</div>'
        for name, text in used.items()
        if text is not None
    ]
    return body + "\n".join(shown)


def mark_chinese(body: str) -> str:
    """The page with its emphasised Chinese words upright, as Chinese is set, and said to be Chinese."""
    return CHINESE.sub(r'<span lang="zh">\1</span>', body)


def _entry(app, page: str, at: str) -> str | None:
    """The entry `at` of a page in HTML: its title and text, without links; None where the page has no such section."""
    kept = app.env.temp_data.setdefault("entries", {})
    if page not in kept:
        kept[page] = app.env.get_and_resolve_doctree(page, app.builder) if page in app.env.found_docs else None
    sections = kept[page].findall(nodes.section) if kept[page] else ()
    section = next((one for one in sections if at in one["ids"] or at == one.get("slug")), None)
    if section is None:
        return None
    inside = [child.deepcopy() for child in section[1:] if not isinstance(child, nodes.section)]
    shown = nodes.container("", nodes.paragraph("", "", nodes.strong("", section[0].astext())), *inside)
    for link in list(shown.findall(nodes.reference)):
        words = link.astext()
        link.replace_self([] if words.startswith("→") else nodes.inline("", words))
    fragment = app.builder.render_partial(shown)["fragment"]
    return mark_chinese(re.sub(r' id="[^"]*"', "", fragment))
