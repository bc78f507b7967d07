"""Links that the site makes: numbers of equations, papers and their chapters, the glossary by letter."""

import pytest
from docutils import nodes
from docutils.utils import new_document

from publishing import references


def page(*children):
    document = new_document("page")
    document += nodes.section("", *children)
    return document


def linked(prose, equation=r"a = b \tag{5}", inside=nodes.paragraph):
    """The addresses that a page's prose links to, with an equation above it."""
    document = page(nodes.math_block("", equation), inside("", "", nodes.Text(prose)))
    references.link_equations(document)
    assert document.findall(nodes.target)
    assert document.astext().endswith(prose), "no letter is lost"
    return [link["refid"] for link in document.findall(nodes.reference)]


@pytest.mark.parametrize(
    "prose", ["By (5), it falls.", "See equation (5).", "Equations (1)–(5) say so", "what (4) and (5) add"]
)
def test_a_number_that_prose_calls_an_equation_by_is_a_link(prose):
    """Would catch "equation (5)" that the reader has to look for."""
    assert linked(prose) == ["equation-5"]


@pytest.mark.parametrize("prose", ["the number of tokens (5) and", "see equation (7)", "in 2005"])
def test_other_numbers_are_none(prose):
    """Would catch a count or a year that leads to an equation, and a link to one that the page has not."""
    assert linked(prose) == []


def test_headings_and_code_stay_as_they_are():
    """Would catch a link within a heading, which the contents would repeat."""
    assert linked("by (5)", inside=nodes.title) == []
    assert linked("by (5)", inside=nodes.literal) == []


def test_a_paper_leads_back_to_its_chapters():
    """Would catch a paper without a way back because the chapter wrote its address with a version or a slash."""
    document = page(nodes.paragraph("", "", nodes.reference("", "x", refuri="https://www.arxiv.org/abs/1607.00133v2/")))
    used = references.used_by(["one"], lambda _: document, lambda name: (f"{name}.html", "One"))
    entry = '<div class="citation" id="id1"><p>Abadi. <a href="https://arxiv.org/abs/1607.00133">arXiv</a></p></div>'
    other = entry.replace("1607.00133", "1606.00001")
    body = references.cite_back(entry + other, used)
    assert body.count('<a class="reference internal" href="one.html">One</a>') == 1
    assert body.endswith(other)


def test_the_glossary_has_a_line_for_each_letter():
    """Would catch a glossary that can only be read by subject."""
    word = '<section id="{0}"><h3>{1}<a class="headerlink" href="#{0}">#</a></h3></section>'
    body = '<p>Words.</p><section id="first"><h2>One</h2>' + word.format("token", "Token") + word.format("head", "Head")
    made = references.a_to_z(body)
    assert made.index("<b>H</b>") < made.index("<b>T</b>") < made.index("<h2>")
    assert '<a class="reference internal" href="#head">Head</a>' in made
