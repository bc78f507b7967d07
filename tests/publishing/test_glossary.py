"""Entries that a page carries for the words it links to."""

from types import SimpleNamespace

import pytest
from docutils.core import publish_doctree

from publishing import glossary

ENTRIES = """\
Glossary
========

Words
-----

Head
~~~~

*注意力头*. One of several `attentions <x.html>`_. `→ Attention <y.html>`_
"""


@pytest.fixture
def app():
    """What the module asks of Sphinx, with a glossary of one entry and a builder that writes text."""
    kept = publish_doctree(ENTRIES, settings_overrides={"doctitle_xform": False})
    env = SimpleNamespace(temp_data={}, found_docs={"glossary"}, get_and_resolve_doctree=lambda name, builder: kept)

    def partial(node):
        assert not list(node.findall(lambda one: one.tagname == "reference"))
        return {"fragment": f'<p id="again">{" ".join(node.astext().split())}</p>'}

    return SimpleNamespace(env=env, builder=SimpleNamespace(render_partial=partial))


def link(at, words="a head", path="../"):
    return f'<a class="reference internal" href="{path}glossary.html#{at}"><span>{words}</span></a>'


def test_an_entry_comes_once_with_title_and_text(app):
    """Would catch an entry for each of its links, links inside a tooltip, and an id that the page has twice."""
    body = glossary.explain(app, link("head") + link("head", "heads"))
    assert body.count('aria-describedby="entry-glossary-head" class="entry-link reference internal" href="../') == 2
    assert body.count('id="entry-glossary-head"') == 1
    assert "<p>Head 注意力头. One of several attentions.</p>" in body
    assert "again" not in body


def test_other_links_stay_as_they_are(app):
    """Would catch a link that promises an entry and has none, which a screen reader would announce."""
    for other in (link("gone"), link("head").replace("glossary", "chapter"), link("x").replace("glossary", "notation")):
        assert glossary.explain(app, other) == other


def test_chinese_is_marked_and_other_emphasis_is_kept():
    """Would catch Chinese in italics, and English that a screen reader takes for Chinese."""
    body = glossary.mark_chinese("<em>注意力</em> and <em>attention</em>, <em>softmax 函数</em>")
    assert body == '<span lang="zh">注意力</span> and <em>attention</em>, <span lang="zh">softmax 函数</span>'


CHAPTER = """\
About attention
===============

A token, *Token and Logit*, ``loss`` and the `head <x.html>`_ of a language model. Heads, models, tokens; the
`softmax <../glossary.html#softmax>`_ is one softmax.

============  ======
Loss          Query
============  ======
Loss          queries
============  ======

Another token-wise loss, one Logit, more logits.
"""


def test_the_first_use_of_each_word_is_linked():
    """Would catch a heading, code, a paper's name or a link that is linked, a second link, half of a longer word, and
    a word that its author has linked already."""
    text = "".join(
        f"### {term}\n\n" for term in ("Token", "Language model", "Head", "Loss", "Logit", "Softmax", "Model")
    )
    terms = glossary.words(text + "### Query, key, value\n\n### Key–value cache\n")
    assert list(terms)[-2:] == ["query-key-value", "keyvalue-cache"]
    tree = publish_doctree(CHAPTER)
    glossary.link_words(tree, terms, "../glossary.html")
    links = [(one.astext(), one["refuri"].split("#")[-1]) for one in tree.findall(lambda n: n.tagname == "reference")]
    assert links == [
        *[("token", "token"), ("head", "x.html"), ("language model", "language-model"), ("Heads", "head")],
        *[("models", "model"), ("softmax", "softmax"), ("Loss", "loss"), ("queries", "query-key-value")],
        ("Logit", "logit"),
    ]
    assert tree.astext() == publish_doctree(CHAPTER).astext()
