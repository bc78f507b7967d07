"""What the site adds to Jupyter Book: everything from its own origin, and nothing that a reader does not need.

Assets come from `web/`, not from a folder called `_static`: Jupyter Book loads every script and style it finds in one
of those on every page. Here two styles and one small script are loaded; the explorer fetches plotly.js itself,
when a figure comes into view.
"""

import html
import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.util import logging

from llmbook.playground.live import SCRIPT as LIVE_SCRIPT
from llmbook.playground.live import STYLE as LIVE_STYLE

from . import glossary, mathematics, playground, references, search
from .book import ROOT, Book
from .setup_cell import OPENING

CARD = "card.png"  # what others show of a link to the book: `make card` draws it from web/card.svg
SCRIPTS, STYLES = (
    ("site.js", "search.js", "glossary.js", "reading.js"),
    ("book.css", "explorer.css", "search.css", "glossary.css", "reading.css"),
)
MODULES = ("figures.js",)  # which imports explorer.js and predict.js
# Thebe runs cells on a foreign server; fontawesome.js draws as SVG the icons that the theme's fonts draw already.
# Sphinx's own search is not the site's.
DEAD = (
    "scripts/fontawesome.js",
    "sphinx-thebe.js",
    "sphinx-thebe.css",
    "searchtools.js",
    "language_data.js",
    "sphinx_highlight.js",
    mathematics.BUILD_ONLY,
)
# What a folded cell is called, by its tag; Jupyter Book says "Show code cell source" of all of them.
FOLDS = {"setup": "Set-up", "hide-cell": "Solution", "hide-input": "Code"}
FOLD = re.compile(
    r'(<div class="cell (?P<tags>[^"]*)">\s*<details class="[^"]*">\s*<summary)[^>]*>'
    r'\s*<p class="collapsed.*?</summary>',
    re.S,
)
# The theme names its colours for light and dark, and begins with neither: without scripts there would be none.
DARK_OR_LIGHT = {
    'data-theme="auto"': 'data-theme="light"',
    'localStorage.getItem("theme") || "auto"': 'localStorage.getItem("theme") || '
    '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")',
}
# The theme gives a tab stop to what scrolls, after every figure that is drawn, and for that it lays out all that is
# folded away. site.js does it instead, once.
THEME = "scripts/pydata-sphinx-theme.js"
TAB_STOPS = re.compile(r'document\.querySelectorAll\(\["pre",[^]]*\]\.join\(", "\)\)')
# What opens the pages below another in the list of contents; the theme gives it an icon and no name.
TOGGLE = re.compile(r'<summary>(?=<span class="toctree-toggle")')
UNWANTED = re.compile(
    r"\s*<(?:script|link)[^>]*(?:fontawesome|searchtools|language_data|searchindex)\.js[^>]*>(?:\s*</script>)?"
)
SEARCH_PAGE = """\
<section id="search"><h1>Search</h1>
<form class="bd-search" id="book-search" action="search.html" method="get" role="search">
<input type="search" class="form-control" name="q" aria-label="Search the book" autocomplete="off" spellcheck="false">
</form>
<noscript><p>Search runs in your browser and needs JavaScript. Without it, the contents beside this page lead to every
chapter, and the <a href="glossary.html">glossary</a> from each word to the chapter that explains it.</p></noscript>
</section>"""
log = logging.getLogger(__name__)


def setup(app):
    """Entry point that Sphinx calls."""
    app.add_config_value("book_description", "", "html")
    app.add_config_value("book_subtitle", "", "html")
    mathematics.setup(app)
    app.connect("config-inited", _assets)
    app.connect("doctree-read", _one_setup)
    app.connect("doctree-read", lambda app, doctree: references.link_equations(doctree))
    app.connect("doctree-resolved", _link_words)
    app.connect("env-get-outdated", _bibliography_again)
    app.connect("config-inited", _links)
    app.connect("builder-inited", _no_search_of_sphinx)
    app.connect("html-collect-pages", lambda app: [("search", {"title": "Search", "body": SEARCH_PAGE}, "page.html")])
    app.connect("html-page-context", _page, priority=900)
    app.connect("build-finished", _finish)
    web = ROOT / "web"
    for name in STYLES:
        if (web / name).is_file():
            app.add_css_file(name, priority=900)
    for name in SCRIPTS:
        if (web / name).is_file():
            app.add_js_file(name, loading_method="defer")
    for name in MODULES:
        if (web / name).is_file():
            app.add_js_file(name, type="module")  # a module waits for the page by itself
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _assets(app, config):
    config.html_static_path.append(str(ROOT / "web"))
    # These scripts and styles travel with the library, which writes them into readers' own pages as well.
    for room in ("figures", "playground"):
        config.html_static_path.append(str(ROOT / "lib" / "llmbook" / room / "assets"))


def _no_search_of_sphinx(app):
    app.builder.search = False  # neither its page nor its index


def _one_setup(app, doctree):
    """The set-up cell and those folded with it become one block; what they print stands below it."""
    first = None
    cells = [box for box in doctree.findall(nodes.container) if box.get("nb_element") == "cell_code"]
    for cell in cells:
        if "tag_setup" in cell["classes"]:
            first = cell
        elif first is not None and f"tag_{OPENING[-1]}" in cell["classes"]:
            parts = {part["nb_element"]: part for part in first}
            for part in list(cell):
                if known := parts.get(part["nb_element"]):
                    known.extend(part.children)
                else:
                    first.append(part)
            cell.parent.remove(cell)


def _link_words(app, doctree, name):
    """The first use of each of the glossary's words in a chapter leads to its entry."""
    source = Path(app.srcdir) / f"{references.GLOSSARY}.md"
    if name.startswith("chapters/") and source.is_file():
        page = app.builder.get_relative_uri(name, references.GLOSSARY)
        glossary.link_words(doctree, glossary.words(source.read_text(encoding="utf-8")), page)


def _links(app, config):
    """For `make links`: a line on GitHub is no anchor of its page, and the book's own files are in this checkout."""
    config.linkcheck_anchors = False
    config.linkcheck_ignore.append(f"{Book().address[0]}/(?:blob|edit|compare|releases)/")


def _page(app, pagename, templatename, context, doctree):
    models = ()
    if playground.present(context.get("body") or ""):
        models = playground.titles()
        app.add_css_file(playground.style(), priority=900)  # called here, they are this page's alone
        for script in playground.scripts():
            app.add_js_file(script, loading_method="defer")
        playground.copy_models(Path(app.outdir) / "_static")
        context["body"] = playground.fill(context["body"], lambda path: context["pathto"](path, 1))
    if live := playground.live(context.get("body") or ""):
        app.add_css_file(f"{playground.FOLDER}/{LIVE_STYLE}", priority=900)
        app.add_js_file(f"{playground.FOLDER}/{LIVE_SCRIPT}", type="module")
        playground.copy_models(Path(app.outdir) / "_static")
        context["body"] = live
    context["body"] = playground.publish_own(
        context.get("body") or "", Path(app.outdir), pagename, lambda path: context["pathto"](path, 1)
    )
    context["script_files"] = [
        file for file in context.get("script_files", []) if not _thebe(file) and "sphinx_highlight" not in _name(file)
    ]
    context["css_files"] = [file for file in context.get("css_files", []) if not _thebe(file)]
    body = FOLD.sub(_fold, context.get("body") or "")
    if pagename == app.config.root_doc:  # the home page opens with its figure
        setup = 'class="cell tag_hide-input tag_setup'
        body = body.replace(f"<div {setup}", f"<div hidden {setup}")
    if "citation-list" in body:  # docutils gives its list roles that do not fit together
        body = body.replace('role="list" class="citation-list"', 'class="citation-list"')
        body = body.replace(' role="doc-biblioentry"', "")
    if pagename == references.GLOSSARY:
        body = references.a_to_z(body)
    if pagename == references.BIBLIOGRAPHY:
        chapters = [name for name in Book().toc if name.startswith("chapters/") and name in app.env.found_docs]
        place = lambda name: (context["pathto"](name), html.escape(app.env.titles[name].astext()))  # noqa: E731
        body = references.cite_back(body, references.used_by(chapters, app.env.get_doctree, place))
    body = glossary.explain(app, glossary.mark_chinese(search.number_figures(body)))
    if doctree is not None:
        title = _plain(context.get("title") or "")
        entries = search.collect(doctree, pagename, body, models)
        search.write_page(Path(app.outdir) / "_static", pagename, title, entries)
    context["body"] = _frame(body, f"{_origin()}{pagename}.html")
    if Book.is_generated(pagename):  # the build writes it: there is nothing to edit
        for group in context.get("header_buttons", []):
            if "buttons" in group:
                group["buttons"] = [b for b in group["buttons"] if b.get("label") != "source-edit-button"]
    _open_what_the_notebook_installs(context.get("header_buttons", []))
    description = _first_paragraph(doctree) or app.config.book_description
    home = pagename == app.config.root_doc
    title = app.config.html_title or app.config.project
    if home:  # the tab would say the book's title twice
        context["title"] = app.config.book_subtitle or title
    context["metatags"] = context.get("metatags", "") + _meta(
        {"name": "description", "content": description},
        {"property": "og:type", "content": "website" if home else "article"},
        {"property": "og:site_name", "content": title},
        {"property": "og:title", "content": title if home else _plain(context.get("title") or title)},
        {"property": "og:description", "content": description},
        {"property": "og:url", "content": f"{_origin()}{pagename}.html"},
        {"property": "og:image", "content": f"{_origin()}_static/{CARD}"},
        {"property": "og:image:alt", "content": f"{title}: {app.config.book_description}"},
        {"name": "twitter:card", "content": "summary_large_image"},
    )


def _bibliography_again(app, env, added, changed, removed):
    """It names the chapters, so it is read again when one of them is."""
    here = references.BIBLIOGRAPHY
    return [here] if here in env.found_docs and (added or changed or removed) else []


def _frame(body: str, address: str) -> str:
    """What shows without scripts, and on paper alone: a word, and where the page is found."""
    return (
        '<noscript><p class="book-word">Without JavaScript you see the text, the code and what it printed. A figure is '
        "its description, and sliders, the search and the playground do not work.</p></noscript>"
        f'{body}<p class="book-address" data-pagefind-ignore>{html.escape(address)}</p>'
    )


def _open_what_the_notebook_installs(groups: list[dict]) -> None:
    """Colab opens the notebook at the tag or branch that its set-up cell installs; the theme knows the branch alone."""
    branch, ref = Book().address[1], Book().ref
    for button in (button for group in groups for button in group.get("buttons", [])):
        if button.get("url", "").startswith("https://colab."):
            button["url"] = button["url"].replace(f"/blob/{branch}/", f"/blob/{ref}/", 1)


def _origin() -> str:
    """Where GitHub publishes the site of the repository that _config.yml names; who looks at a card needs it whole."""
    owner, name = Book().address[0].rstrip("/").rsplit("/", 2)[-2:]
    return f"https://{owner}.github.io/{name}/"


def _meta(*tags: dict[str, str]) -> str:
    written = (" ".join(f'{key}="{html.escape(value)}"' for key, value in tag.items()) for tag in tags)
    return "".join(f"\n<meta {tag}>" for tag in written)


def _plain(title: str) -> str:
    """A title as Sphinx gives it, in HTML, as text."""
    return html.unescape(re.sub(r"<[^>]+>", "", title))


def _thebe(file) -> bool:
    body = (getattr(file, "attributes", None) or {}).get("body") or ""
    return "thebe" in _name(file) or "thebe" in body.lower()


def _name(file) -> str:
    return str(getattr(file, "filename", file)).lower()


def _fold(match: re.Match) -> str:
    name = next((name for tag, name in FOLDS.items() if f"tag_{tag}" in match["tags"]), "Code")
    return f"{match[1]}><p>{name}</p></summary>"


def _first_paragraph(doctree) -> str:
    """The opening sentence or two of a page, for search engines: its question, in most chapters."""
    if doctree is None:
        return ""
    for paragraph in doctree.findall(nodes.paragraph):
        words = " ".join(paragraph.astext().split())
        if len(words) >= 40 and not re.search(r"\bquick\b.*\bfull\b", words, re.I):
            return words if len(words) <= 160 else words[:157].rsplit(" ", 1)[0] + " …"
    return ""


def _finish(app, exception):
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    for page in out.rglob("*.html"):
        before = page.read_text(encoding="utf-8")
        after = UNWANTED.sub("", before)
        for there, instead in DARK_OR_LIGHT.items():
            after = after.replace(there, instead)
        if "bd-sidebar-secondary" not in after:
            after = after.replace('class="bd-content"', 'class="bd-content book-alone"', 1)
        after = TOGGLE.sub('<summary aria-label="Pages below this one">', after)
        if after != before:
            page.write_text(after, encoding="utf-8")
    theme = out / "_static" / THEME
    script = TAB_STOPS.sub("[]", theme.read_text(encoding="utf-8"))
    if "[].forEach(e=>{e.tabIndex=" in script:
        theme.write_text(script, encoding="utf-8")
    else:
        log.warning("%s is no longer as TAB_STOPS in sphinx_ext.py expects it", THEME)
    entries, size = search.write_index(out / "_static", sorted(app.env.found_docs))
    log.info("search: %d entries, an index of %.0f kB", entries, size / 1000)
    for dead in DEAD:
        (out / "_static" / dead).unlink(missing_ok=True)
    for unwanted in list(out.rglob("*.map")):
        unwanted.unlink()
    # Readers download the notebook as it is committed, without the outputs of this build. srcdir is _build/src.
    for name in app.env.found_docs:
        source = Path(app.srcdir).parents[1] / f"{name}.ipynb"
        copy = out / "_sources" / f"{name}.ipynb"
        if source.is_file() and copy.is_file():
            shutil.copyfile(source, copy)
