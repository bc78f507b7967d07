"""Words and symbols explained where they are used: a link to an entry of the glossary or to a section of the notation
carries the entry's text, which glossary.js shows beside the link and screen readers read with it.

The text lies in the page: nothing is fetched, and a page that is kept has it.
"""

import html
import re

from docutils import nodes

PAGES = ("glossary", "notation")
LINK = re.compile(
    r'<a class="(?P<classes>[^"]*)" href="(?P<path>[^"#]*?)(?P<page>glossary|notation)\.html#(?P<at>[^"]+)"'
)
CHINESE = re.compile(r"<em>([^<]*[\u3400-\u9fff][^<]*)</em>")


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
