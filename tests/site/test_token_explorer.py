"""The figure that cuts what one types, in a browser: what is pasted is what is cut, however long it is."""

import pytest

from llmbook.figures import token_explorer
from llmbook.text import BPETokenizer

pytestmark = pytest.mark.xdist_group("token explorer")
TEXT = "low lower lowest, the lower the low; 汉字 汉字表 the 汉字\n" * 5
COUNT = "document.querySelector('[data-part=count]').textContent"


@pytest.fixture
def typed(browser):
    """typed(text): what the figure counts and shows of it."""
    tokenizer = BPETokenizer.train(TEXT, vocab_size=300)
    figure = token_explorer({"one": tokenizer, "two": tokenizer}, {"a": "low"}, sizes=[256, 300], size=300, title="Cut")
    page = browser.new_page()
    page.set_content(figure.markup)

    def enter(text):
        n_bytes = f"{len(text.encode()):,} bytes"
        page.evaluate(
            """(text) => {
              const box = document.querySelector("textarea");
              box.value = text;
              box.dispatchEvent(new Event("input"));
            }""",
            text,
        )
        page.wait_for_function(f"{COUNT}.startsWith('{n_bytes} ')")
        expected = f"{len(tokenizer.encode(text)):,}"
        page.wait_for_function(f"document.querySelector('[data-part=others]').textContent.includes('two {expected}')")
        assert f"→ {expected} tokens" in page.evaluate(COUNT)
        return page.locator("[data-part=tokens] span").count(), page.locator("[data-part=tokens]").text_content()

    yield enter
    page.close()


@pytest.mark.parametrize("unit", ["lowerlowestthe", "the lower low ", "汉字表"], ids=["one word", "words", "Chinese"])
def test_a_long_paste_is_counted_and_its_beginning_is_shown(typed, unit):
    """Would catch a stack that overflows, a page of a hundred thousand boxes, and a count of what is shown alone."""
    boxes, shown = typed((unit * 130_000)[:130_000])
    assert boxes == 1500
    assert "more, which are counted and not shown" in shown


def test_what_is_typed_is_what_is_cut(typed):
    """Would catch a text that is normalised in silence: e and an accent are three bytes, é is two."""
    assert typed("e\u0301")[1] == typed("e\u0301")[1] != typed("\u00e9")[1]
