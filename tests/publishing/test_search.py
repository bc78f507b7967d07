"""The index of the search: what is found of a page, and which of it comes first."""

import json

import pytest
from docutils import nodes
from docutils.core import publish_doctree

from publishing import search
from publishing.book import ROOT
from publishing.engine import engine
from publishing.files import write_text

PAGE = """\
Attention
=========

Which token reads which?

*Quick: 40 s, 2 CPU cores. Full: 6 min.*

Weights
-------

The weights :math:`a_{ij} = \\sqrt{d_k} \\cdot \\theta` sum to one.

::

    weights = attend(query)

Exercise 1: Check
-----------------

Compute a mask by hand.
"""
FIGURE = (
    '<figure class="llm-figure" style="x"><p class="llm-title">One <b>head</b></p>'
    '<div role="img" aria-label="Bright: [CLS]"></div>'
    '<figcaption><span class="llm-caption">Rows read.</span></figcaption>'
    '<script type="application/json">{"secret": 1}</script></figure>'
)
GLOSSARY = [
    search.Entry(kind="section", title="Glossary", at="", text="Words."),
    search.Entry(kind="word", title="Attention", at="attention", text="注意力. A mixture of values."),
    search.Entry(kind="word", title="Query, key, value", at="qkv", text="查询、键、值. Three vectors of a token."),
    search.Entry(kind="word", title="Ranking (AUC)", at="auc", text="排序（AUC）. Of pairs, the share in order."),
    search.Entry(kind="word", title="Top-p", at="top-p", text="核采样. The fewest tokens that together have it."),
]


@pytest.fixture(scope="module")
def entries():
    """What is collected of a page with a section, an exercise, a formula, code and a figure."""
    doctree = publish_doctree(PAGE, settings_overrides={"doctitle_xform": False, "report_level": 5})
    return search.collect(doctree, "chapter", search.number_figures(f"<p>{FIGURE}</p>"), [("small", "A small one")])


@pytest.fixture(scope="module")
def ask(entries, tmp_path_factory):
    """ask(query): what the search of a small site answers: the query as understood, and [kind, title, address]."""
    static = tmp_path_factory.mktemp("static")
    for name in (search.MINISEARCH, search.CORE):
        write_text(static / name, (ROOT / "web" / name).read_text(encoding="utf-8"))
    search.write_page(static, "chapter", "Attention", entries)
    search.write_page(static, "glossary", "Glossary", GLOSSARY)
    count, size = search.write_index(static, ["chapter", "glossary", "gone"])
    assert count == len(entries) + len(GLOSSARY)
    assert size == len((static / search.INDEX).read_bytes())
    write_text(static / "timer.js", "var setTimeout = (go) => Promise.resolve().then(go)\n")  # the engine has no clock
    scripts = "timer.js", search.MINISEARCH, search.CORE, search.INDEX
    asked = engine(*(static / name for name in scripts))
    asked.eval("bookSearch.loading").get()

    def go(query):
        asked.eval(f"found = bookSearch.search({json.dumps(query)})")
        shown = "found.results.map((one) => [one.kind, one.title, `${one.page.name}#${one.at}`])"
        return json.loads(asked.eval(f"JSON.stringify([found.query, {shown}])"))

    return go


def test_a_page_gives_sections_exercises_figures_and_models(entries):
    """Would catch a kind of result that is lost, a snippet that quotes code, times or markup, and TeX shown raw."""
    assert [(one.kind, one.title, one.at) for one in entries] == [
        ("section", "Attention", ""),
        ("section", "Weights", "weights"),
        ("exercise", "Exercise 1: Check", "exercise-1-check"),
        ("model", "A small one", "model=small"),
        ("figure", "One head", "figure-1"),
    ]
    assert entries[0].text == "Which token reads which?"
    assert entries[1].text == "The weights a_ij = √d_k ·θ sum to one."
    assert entries[1].code == "weights attend query"
    assert entries[-1].text == "Rows read. Bright: [CLS]"


def test_each_figure_has_an_address_of_its_own():
    """Would catch two figures under one address: a result would lead to the wrong one."""
    body = search.number_figures(FIGURE + "<figure><img></figure>" + FIGURE)
    assert body.count('id="figure-1"') == body.count('id="figure-2"') == 1
    assert "figure-3" not in body


def test_words_and_their_chinese_are_paired():
    """Would catch 键 leading to a query: an entry of three words has three terms, in their order."""
    groups = search.synonyms([(one.title, one.text) for one in GLOSSARY if one.kind == "word"])
    assert groups[:4] == [["attention", "注意力"], ["query", "查询"], ["key", "键"], ["value", "值"]]
    assert ["ranking", "排序"] in groups


def test_synonyms_are_lists_of_different_words():
    """Would catch a slip in the file: a group of one, a word twice, or YAML that reads a word as something else."""
    for group in search.synonyms([]):
        assert len(group) == len(set(group)) > 1, group
        assert all(isinstance(word, str) and word == word.lower() for word in group), group


@pytest.mark.parametrize(
    ("query", "meant", "first"),
    [
        ("attention", "attention", ["word", "Attention", "glossary#attention"]),
        ("attenton", "attention", ["word", "Attention", "glossary#attention"]),
        ("注意力", "注意力", ["word", "Attention", "glossary#attention"]),
        ("键", "键", ["word", "Query, key, value", "glossary#qkv"]),
        ("top-p", "top-p", ["word", "Top-p", "glossary#top-p"]),
        ("nucleus sampling", "nucleus sampling", ["word", "Top-p", "glossary#top-p"]),
        ("exercse mask", "exercise mask", ["exercise", "Exercise 1: Check", "chapter#exercise-1-check"]),
        ("weig", "weig", ["section", "Weights", "chapter#weights"]),
        ("bright rows", "bright rows", ["figure", "One head", "chapter#figure-1"]),
        ("attend(query)", "attend(query)", ["section", "Weights", "chapter#weights"]),
    ],
)
def test_what_comes_first(ask, query, meant, first):
    """Would catch a misspelling or a language that finds nothing, and an entry that its word does not find first."""
    assert ask(query)[0] == meant
    assert ask(query)[1][0] == first


@pytest.mark.parametrize("query", ["qzxvqzxv", "", "的", "the", "()"])
def test_nothing_is_found_for_nonsense(ask, query):
    """Would catch a search that lists something whatever is asked, or that falls over signs."""
    assert ask(query)[1] == []


def test_a_snippet_holds_the_words_and_marks_them(ask):
    """Would catch a snippet from the beginning of a long text, far from what was looked for."""
    ask("x")
    asked = engine(*_scripts())
    text = (
        "Filler words go on. " * 30 + "Here the residual stream begins, and 残差流 is its name. " + "More filler. " * 30
    )
    asked.eval(f"text = {json.dumps(text)}")
    pieces = json.loads(asked.eval('JSON.stringify(bookSearch.snippet(text, new Set(["residual", "stream", "残差"])))'))
    assert [words for words, marked in pieces if marked] == ["residual", "stream", "残差"]
    assert 100 < sum(len(words) for words, _ in pieces) < 220
    assert pieces[0][0].startswith("… ")
    assert asked.eval("bookSearch.snippet('short', new Set()).map((one) => one[0]).join('')") == "short"


def _scripts():
    return [ROOT / "web" / name for name in (search.MINISEARCH, search.CORE)]


def test_plain_formulas_read_as_text():
    """Would catch backslashes in a snippet."""
    doctree = nodes.document("", "")
    doctree += nodes.section("", nodes.title("", "A"), nodes.math_block("", r"\frac{a}{b}\,x \le \alpha \tag{3}"))
    assert search.collect(doctree, "page", "")[0].text == "ab x ≤α"
