"""Formulas: there without a script, their numbers beside them, their TeX on the clipboard."""

import pytest

from tests.site.pages import PAGES, PHONE, WIDE, text

FORMULAS = [page for page in PAGES if 'class="math ' in text(page)]
NUMBERED = [page for page in FORMULAS if "katex-tag" in text(page)]


@pytest.fixture
def page_with():
    """page_with(pages): the first of `pages`; without one there is nothing to see, and that is a failure."""

    def go(pages):
        return pages[0] if pages else pytest.fail("no page of the site has a formula of this kind")

    return go


def test_formulas_are_there_without_javascript(browser, address, page_with):
    """Would catch formulas that wait for a script, and raw TeX for a reader who has none."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + page_with(NUMBERED))
    formulas = page.locator("main .math .katex-html")
    assert formulas.count() > 5
    assert formulas.first.bounding_box()["width"] > 5
    assert page.locator("main .math math annotation").count() == formulas.count()
    assert "\\(" not in page.locator("main").inner_text()
    context.close()


@pytest.mark.parametrize("look", [WIDE, PHONE], ids=str)
def test_a_number_stands_beside_its_formula(opened, look, page_with):
    """Would catch (3) printed over the end of its formula, as KaTeX does where there is little room."""
    page = opened(page_with(NUMBERED), look)
    page.evaluate("document.fonts.ready.then(() => null)")
    over = page.evaluate(
        """() => [...document.querySelectorAll(".katex-tag")].filter((tag) => {
          const parts = [...tag.parentElement.querySelectorAll(":scope > .katex-base")];
          return parts.some((part) => part.getBoundingClientRect().right > tag.getBoundingClientRect().left + 1);
        }).map((tag) => tag.closest(".katex").querySelector("annotation").textContent)"""
    )
    assert over == []
    assert page.locator(".katex-tag").count() > 0


def test_a_copied_formula_is_tex(opened, page_with):
    """Would catch a formula that arrives in a reader's notes as a heap of letters."""
    page = opened(page_with(NUMBERED), WIDE)
    copied = page.evaluate(
        """() => {
          const formula = document.querySelector(".katex-display .katex"), event = new ClipboardEvent("copy",
            { clipboardData: new DataTransfer(), bubbles: true, cancelable: true });
          getSelection().selectAllChildren(formula.parentElement);
          formula.dispatchEvent(event);
          return [event.clipboardData.getData("text/plain"), formula.querySelector("annotation").textContent];
        }"""
    )
    assert len(copied[1]) > 5
    assert copied[1] in copied[0]


def test_its_style_and_fonts_come_with_the_page(book):
    """Would catch a page whose formulas have no style, and one that fetches a style for formulas it has not."""
    for page in PAGES:
        assert (page in FORMULAS) == ("katex.min.css" in text(page)), page
        assert "mathjax" not in text(page).lower().replace("mathjax_ignore", "").replace("mathjax_process", ""), page
