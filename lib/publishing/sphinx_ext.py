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

from . import playground
from .book import ROOT, STATUS, Book

CARD = "card.png"  # what others show of a link to the book: `make card` draws it from web/card.svg
SCRIPTS, STYLES = ("site.js",), ("book.css", "explorer.css")
MODULES = ("figures.js",)  # which imports explorer.js and predict.js
# Thebe runs cells on a foreign server; fontawesome.js draws as SVG the icons that the theme's fonts draw already.
DEAD = ("scripts/fontawesome.js", "sphinx-thebe.js", "sphinx-thebe.css")
# What a folded cell is called, by its tag; Jupyter Book says "Show code cell source" of all of them.
FOLDS = {"setup": "Set-up", "hide-cell": "Solution", "hide-input": "Code"}
FOLD = re.compile(
    r'(<div class="cell (?P<tags>[^"]*)">\s*<details class="[^"]*">\s*<summary)[^>]*>'
    r'\s*<p class="collapsed.*?</summary>',
    re.S,
)
# Sphinx splits every formula with a line break, one inside a matrix too; a \tag in a split is an error on the page.
SPLIT = re.compile(r"\\begin\{split\}((?:(?!\\end\{split\}).)*\\tag\{(?:(?!\\end\{split\}).)*)\\end\{split\}", re.S)
FONTAWESOME = re.compile(r"\s*<(?:script|link)[^>]*fontawesome\.js[^>]*>(?:\s*</script>)?")


def setup(app):
    """Entry point that Sphinx calls."""
    app.add_config_value("book_description", "", "html")
    app.add_config_value("book_subtitle", "", "html")
    app.connect("config-inited", _assets)
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
    # The playground's script and style travel with the library, which writes them into readers' own pages as well.
    config.html_static_path.append(str(ROOT / "lib" / "llmbook" / "figures" / "assets"))
    config.mathjax_path = "vendor/mathjax/tex-chtml.js"
    # No menu: its speech and colour tools would be fetched from elsewhere, and it makes every formula a tab stop.
    config.mathjax3_config = {"options": {"enableMenu": False}} | (config.mathjax3_config or {})


def _page(app, pagename, templatename, context, doctree):
    if playground.present(context.get("body") or ""):
        app.add_css_file(playground.style(), priority=900)  # called here, they are this page's alone
        for script in playground.scripts():
            app.add_js_file(script, loading_method="defer")
        playground.copy_models(Path(app.outdir) / "_static")
        context["body"] = playground.fill(context["body"], lambda path: context["pathto"](path, 1))
    context["body"] = playground.publish_own(
        context.get("body") or "", Path(app.outdir), pagename, lambda path: context["pathto"](path, 1)
    )
    context["script_files"] = [file for file in context.get("script_files", []) if not _thebe(file)]
    context["css_files"] = [file for file in context.get("css_files", []) if not _thebe(file)]
    body = FOLD.sub(_fold, context.get("body") or "")
    if pagename == app.config.root_doc:  # the home page opens with its figure
        setup = 'class="cell tag_hide-input tag_setup'
        body = body.replace(f"<div {setup}", f"<div hidden {setup}")
    if "citation-list" in body:  # docutils gives its list roles that do not fit together
        body = body.replace('role="list" class="citation-list"', 'class="citation-list"')
        body = body.replace(' role="doc-biblioentry"', "")
    body = SPLIT.sub(r"\1", body)
    context["body"] = body
    if 'class="math ' not in body:
        context["script_files"] = [file for file in context["script_files"] if "mathjax" not in _name(file)]
    if pagename == STATUS:  # the build writes it: there is nothing to edit
        for group in context.get("header_buttons", []):
            if "buttons" in group:
                group["buttons"] = [b for b in group["buttons"] if b.get("label") != "source-edit-button"]
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
        after = FONTAWESOME.sub("", before)
        if after != before:
            page.write_text(after, encoding="utf-8")
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
