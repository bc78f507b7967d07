"""A prediction as its reader meets it: by keyboard, a second time, where nothing is kept, on the page of all."""

import re

import pytest

from tests.site.pages import PAGES, PHONE, PREDICTIONS, WIDE, text

needs_site = pytest.mark.skipif(not PREDICTIONS, reason="there is no built site with predictions: run `make book`")
LEDGER = "predictions.html"
REFUSES = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('refused'); } });"


def page_with(kind):
    """The first page that asks for a guess of this kind."""
    found = [page for page in PREDICTIONS if f"llm-guess llm-{kind}" in text(page)]
    if not found:
        pytest.skip(f"no page asks to {kind}")
    return found[0]


def first(page, kind):
    """Its first question of this kind, on the screen and ready."""
    question = page.locator(f".llm-predict:has(.llm-{kind})").first
    question.scroll_into_view_if_needed()
    question.locator("fieldset:not([disabled])").wait_for()
    return question


def drawn(page, question):
    """Wait until the figure that answers is drawn, and give its first traces' names."""
    figure = question.locator("figure.llm-figure").first
    page.wait_for_function("(figure) => /figure|explorer/.test(figure.dataset.state)", arg=figure.element_handle())
    return figure.evaluate("(figure) => figure.querySelector('.llm-plot').data.map((trace) => trace.name)")


@needs_site
def test_choose_with_the_keyboard_and_find_it_again(opened):
    """Would catch a form that needs a mouse, a figure that shows itself early, and a guess that is forgotten."""
    page = opened(page_with("pick"), WIDE)
    question = first(page, "pick")
    assert not question.locator("figure.llm-figure").first.is_visible()
    page.evaluate("(box) => box.querySelector('input').focus()", question.element_handle())
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    said = question.locator(".llm-verdict span").inner_text()
    assert said.startswith("You said: ")
    assert page.evaluate("document.activeElement.className") == "llm-verdict"
    assert said in question.locator(".llm-plot").first.get_attribute("aria-label") or drawn(page, question)
    page.reload()
    question = page.locator(".llm-predict:has(.llm-pick)").first
    page.wait_for_function("(box) => box.dataset.state === 'open'", arg=question.element_handle())
    assert question.locator(".llm-verdict span").inner_text() == said
    question.get_by_role("button", name="Guess again").click()
    assert question.locator("input").first.is_visible()
    assert not question.locator("figure.llm-figure").first.is_visible()


@needs_site
@pytest.mark.parametrize(("written", "answer"), [("plenty", "“plenty” is not a number"), ("1e9", "outside the axis")])
def test_a_guess_of_nonsense_is_told_and_kept(opened, written, answer):
    """Would catch nonsense that opens the figure, or that is cleared away for the reader to type once more."""
    page = opened(page_with("place"), WIDE)
    question = first(page, "place")
    field = question.locator("input[type=text]")
    field.fill(written)
    field.press("Enter")
    assert answer in question.locator(".llm-say").inner_text()
    assert field.input_value() == written
    assert not question.locator("figure.llm-figure").first.is_visible()


@needs_site
def test_draw_a_line_with_the_keyboard(opened):
    """Would catch a pad that only a pointer can draw on, a line with a hole, and a figure without the reader's line."""
    page = opened(page_with("draw"), PHONE)
    question = first(page, "draw")
    points = question.locator(".llm-point input")
    page.evaluate("(point) => point.focus()", points.first.element_handle())
    for number in range(points.count()):
        if number == 1:
            question.locator("[type=submit]").evaluate("(button) => button.form.requestSubmit()")
            assert "there is no point yet" in question.locator(".llm-say").inner_text()
            page.evaluate("(point) => point.focus()", points.first.element_handle())
            page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        if number:
            page.keyboard.press("ArrowRight")
    assert points.last.get_attribute("aria-valuetext") != "not drawn yet"
    page.keyboard.press("Enter")
    assert question.locator(".llm-verdict span").inner_text().startswith("Your line agrees")
    assert drawn(page, question)[-1] == "your guess"


@needs_site
def test_a_browser_that_keeps_nothing_says_so(browser, address):
    """Would catch a refused memory that stops the page, loses the guess at once, or is passed over in silence."""
    from tests.site.browser import window

    with window(browser, WIDE) as page:
        page.add_init_script(REFUSES)
        page.goto(address + page_with("pick"))
        question = first(page, "pick")
        question.locator("input").first.check()
        question.get_by_role("button", name="Show what was measured").click()
        assert "keeps nothing for this site" in question.locator(".llm-verdict").inner_text()
        assert drawn(page, question)


@needs_site
@pytest.mark.skipif(LEDGER not in PAGES, reason="there is no built page of predictions: run `make book`")
def test_the_list_of_all_predictions(opened, address):
    """Would catch a list that misses a question or an answer, counts wrongly, or cannot be saved and emptied."""
    source = page_with("pick")
    page = opened(LEDGER, WIDE)
    assert "no prediction yet" in page.locator(".llm-score").inner_text()
    asked = sum(len(re.findall('class="llm-predict"', text(one))) for one in PREDICTIONS)
    assert page.locator(".llm-ledger li").count() == asked
    link = page.locator(f".llm-ledger li a[href^='{source}#']").first
    link.click()
    identifier = page.url.split("#")[1]
    question = page.locator(f"[id='{identifier}']")
    question.locator("fieldset:not([disabled])").wait_for()
    question.get_by_role("button", name="Show without guessing").click()
    page.goto(address + LEDGER)
    assert "no prediction yet" in page.locator(".llm-score").inner_text()  # looking is no guess
    page.goto(address + source)
    question = first(page, "pick")
    question.locator("input").first.check()
    question.get_by_role("button", name="Show what was measured").click()
    right = question.locator(".llm-verdict").get_attribute("data-right") == "true"
    page.goto(address + LEDGER)
    page.wait_for_function("document.querySelector('.llm-score').textContent.startsWith('Right')")
    assert page.locator(".llm-score").inner_text().startswith(f"Right {int(right)} of 1;")
    assert "You said: " in page.locator(".llm-ledger").inner_text()
    with page.expect_download() as saved:
        page.get_by_text("Save as a file").click()
    rows = saved.value.path().read_text(encoding="utf-8").splitlines()
    assert len(rows) == 2
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget all").click()
    assert "no prediction yet" in page.locator(".llm-score").inner_text()
    assert page.evaluate("localStorage.getItem('llmbook.predictions')") == "{}"


@needs_site
def test_without_javascript_the_question_and_the_answer_can_be_read(browser, address):
    """Would catch a page that hides its figures for a guess that nobody can make."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + page_with("pick"))
    question = page.locator(".llm-predict:has(.llm-pick)").first
    assert question.locator(".llm-question").is_visible()
    assert not question.locator("fieldset").is_visible()
    assert "What it shows:" in question.inner_text()
    if LEDGER in PAGES:
        page.goto(address + LEDGER)
        assert "Without JavaScript" in page.locator(".llm-ledger noscript").inner_text()
    context.close()
