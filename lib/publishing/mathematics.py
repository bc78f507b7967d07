"""Formulas, set by KaTeX while the site is built: a page needs no script to show them.

KaTeX writes each formula twice, in HTML for the eye and in MathML for screen readers, with the TeX inside; its
`copy-tex` puts that TeX on the clipboard when a reader copies a formula.
"""

from docutils import nodes
from sphinx.util import logging

from .book import ROOT
from .engine import engine

KATEX = ROOT / "web" / "vendor" / "katex"
STYLES, SCRIPT = ("vendor/katex/katex.min.css", "mathematics.css"), "vendor/katex/copy-tex.min.js"
# The letters that nearly every formula has: fetched with the page, not when the style asks for them.
FONTS = ("KaTeX_Main-Regular", "KaTeX_Math-Italic")
BUILD_ONLY = "vendor/katex/katex.min.js"
log = logging.getLogger(__name__)


def setup(app) -> None:
    """Set every formula, those in the contents too, with KaTeX."""
    app.add_html_math_renderer("katex", (_inline, None), (_block, None))
    app.connect("html-page-context", _page, priority=800)


def typeset(tex: str, *, display: bool) -> str:
    """`tex` as HTML and MathML. Raises ValueError where KaTeX does not understand it."""
    from py_mini_racer import JSEvalException

    options = {"displayMode": display, "throwOnError": True, "strict": "error"}
    try:
        return engine(KATEX / "katex.min.js").call("katex.renderToString", tex, options)
    except JSEvalException as error:
        raise ValueError(str(error).partition("\n    at ")[0]) from None


def _inline(translator, node: nodes.math) -> None:
    translator.body.append(_element(translator, node, "span", display=False))
    raise nodes.SkipNode


def _block(translator, node: nodes.math_block) -> None:
    translator.body.append(_element(translator, node, "div", display=True))
    raise nodes.SkipNode


def _element(translator, node: nodes.Element, tag: str, *, display: bool) -> str:
    tex = node.astext().strip()
    try:
        inside = typeset(tex, display=display)
    except ValueError as error:
        log.warning("a formula that cannot be set: %s", error, location=node)
        inside = f"<code>{translator.encode(tex)}</code>"
    return f"{translator.starttag(node, tag, '', CLASS='math notranslate nohighlight')}{inside}</{tag}>"


def _page(app, pagename, templatename, context, doctree) -> None:
    """The style and the fonts of formulas, on pages that have some; their contents may show one of another page."""
    if doctree is None or not any(doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block))):
        return
    for style in STYLES:
        app.add_css_file(style, priority=850)
    app.add_js_file(SCRIPT, loading_method="defer")
    path = context["pathto"]
    context["metatags"] = context.get("metatags", "") + "".join(
        f'\n<link rel="preload" as="font" type="font/woff2" crossorigin href="{path(_font(name), 1)}">'
        for name in FONTS
    )


def _font(name: str) -> str:
    return f"_static/vendor/katex/fonts/{name}.woff2"
