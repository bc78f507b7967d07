"""The playground as a reader has it: typing, dials, chance, models, and everything that can be missing."""

import functools
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmbook import checkpoints
from tests.site.pages import WIDE

PAGE = "playground.html"
MODELS = checkpoints.manifest()
pytestmark = [
    pytest.mark.xdist_group("playground"),
    pytest.mark.skipif(not MODELS, reason="no model has been published"),
]
READY = "document.querySelector('.llm-playground')?.dataset.state === 'ready'"
FAILED = "document.querySelector('.llm-playground')?.dataset.state === 'failed'"
FORGET = """() => {
  document.querySelector(".pg-meter").textContent = "";
  document.querySelector(".pg-status").classList.remove("pg-wrong");
}"""
RESTS = "document.querySelector('.pg-write').textContent === 'Write'"


class Hand:
    """A reader's hand on an open playground."""

    def __init__(self, page):
        self.page = page

    def ready(self):
        self.page.wait_for_function(READY)
        return self

    def type(self, text):
        """Put `text` into the box, and wait until it has been read or refused."""
        self.page.evaluate(FORGET)
        self.page.locator("textarea").fill(text)
        told = "document.querySelector('.pg-meter').textContent.includes(' for the last one')"
        refused = "document.querySelector('.pg-wrong')"
        self.page.wait_for_function(f"{told} || {refused}")

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def add(self, n):
        """Add n tokens, one press each."""
        for _ in range(n):
            before = len(self.tokens)
            self.press("Add a token")
            self.page.wait_for_function(f"document.querySelectorAll('.pg-tokens > *').length > {before}")

    def replay(self):
        self.press("Replay")
        self.page.wait_for_function("document.querySelector('.pg-status').textContent.startsWith('Wrote')")

    def turn(self, dial, value):
        self.page.get_by_role("slider", name=dial).fill(str(value))

    @property
    def tokens(self):
        return self.page.locator(".pg-tokens > *").all_text_contents()

    @property
    def text(self):
        return self.page.locator(".pg-text").text_content()

    @property
    def status(self):
        return self.page.locator(".pg-status").text_content()

    @property
    def kept(self):
        """The candidates that can still be drawn."""
        return self.page.locator(".pg-bars tbody tr:not([hidden]):not(.pg-cut) th").all_text_contents()


@pytest.fixture
def hand(opened):
    """The playground, open and ready."""
    return Hand(opened(PAGE, WIDE)).ready()


def test_what_is_typed_is_read(hand):
    """Would catch tokens, expectations or attention of another text than the one in the box."""
    hand.type("My lord")
    assert "".join(hand.tokens) == "My␣lord"
    expected = hand.kept
    hand.type("My lor")
    assert "".join(hand.tokens) == "My␣lor"
    assert hand.kept != expected
    hand.page.locator(".pg-tokens > *").nth(2).click()
    readout = hand.page.locator(".pg-readout").text_content()
    assert re.match(r"Layer 0, head 0: “.*” at position 2 reads “", readout), readout
    assert hand.page.locator(".pg-tokens [aria-selected=true]").count() == 1


def test_every_head_can_be_seen(hand):
    """Would catch a picture that is not drawn, and one that shows another head than it says."""
    config = next(iter(MODELS))
    heads = hand.page.locator(".pg-heads [role=radio]")
    sizes = hand.page.locator(".pg-about").text_content()
    layers, each = map(int, re.search(r"(\d+) layers? of (\d+) heads?", sizes).groups())
    assert heads.count() == layers * each, config
    ink = "(canvas) => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    assert all(drawn > 2 for drawn in hand.page.locator(".pg-heads canvas").evaluate_all(f"(all) => all.map({ink})"))
    heads.last.click()
    assert hand.page.locator(".pg-readout").text_content().startswith(f"Layer {layers - 1}, head {each - 1}:")
    assert hand.page.locator(".pg-map").evaluate(ink) > 2


def test_dials_cut(hand):
    """Would catch a dial that moves and cuts nothing, or cuts and does not say so."""
    everything = len(hand.kept)
    hand.turn("Temperature", 1)
    hand.turn("Top-k", 3)  # the fourth step of its scale: 5
    assert len(hand.kept) == 5
    assert "top-k leaves 5" in hand.page.locator(".pg-left").text_content()
    hand.turn("Min-p", 0.5)
    assert 1 <= len(hand.kept) <= 5
    assert f"min-p leaves {len(hand.kept)}" in hand.page.locator(".pg-left").text_content()
    hand.turn("Min-p", 0)
    hand.turn("Top-p", 0.05)
    assert len(hand.kept) == 1
    assert hand.page.locator(".pg-cut").first.text_content().endswith("cut: top-p")
    hand.turn("Top-p", 1)
    hand.turn("Top-k", 100)
    assert len(hand.kept) == everything
    hand.turn("Temperature", 0)
    assert "100 %" in hand.page.locator(".pg-bars tbody tr").first.text_content()


def test_chance_can_be_repeated(hand, opened, address):
    """Would catch a text that depends on more than prompt, dials and seed, and a link that brings another one."""
    hand.type("The king")
    hand.add(6)
    first = hand.text
    assert first.startswith("The king")
    assert len(hand.tokens) > 6
    hand.replay()
    assert hand.text == first
    hand.press("Copy a link")
    hand.page.wait_for_function("location.hash.includes('seed=')")
    link = hand.page.evaluate("location.hash")
    other = Hand(opened(PAGE + link, WIDE)).ready()
    other.page.wait_for_function("document.querySelector('.pg-status').textContent.startsWith('Wrote')")
    assert other.text == first
    hand.page.get_by_label("Seed").fill("2")
    hand.replay()
    assert hand.text != first


def test_a_text_put_together_by_hand_travels_too(hand, opened):
    """Would catch a link that replays what was never drawn."""
    hand.type("The king")
    hand.page.locator(".pg-bars button").nth(7).click()
    hand.page.wait_for_function("document.querySelector('.pg-status').textContent.startsWith('Added')")
    hand.add(2)
    hand.press("Copy a link")
    hand.page.wait_for_function("location.hash.includes('w=')")
    other = Hand(opened(PAGE + hand.page.evaluate("location.hash"), WIDE)).ready()
    other.page.wait_for_function("document.querySelector('.pg-status').textContent.startsWith('The link brought')")
    assert other.text == hand.text


def test_the_keyboard_is_enough(hand):
    """Would catch a control that only a mouse can reach, and writing that nothing stops."""
    keys = hand.page.keyboard
    hand.page.locator("textarea").focus()
    keys.press("Control+Enter")
    hand.page.wait_for_function("document.querySelector('.pg-write').textContent === 'Stop'")
    hand.page.wait_for_function("document.querySelectorAll('.pg-tokens .pg-written').length > 3")
    keys.press("Escape")
    hand.page.wait_for_function(RESTS)
    assert hand.status.startswith("Wrote")
    assert "Written: " in hand.page.locator(".pg-status .pg-unseen").text_content()  # for who listens
    hand.page.locator(".pg-tokens [aria-selected=true]").focus()
    keys.press("Home")
    keys.press("ArrowRight")
    assert "at position 1 reads" in hand.page.locator(".pg-readout").text_content()
    hand.page.locator(".pg-heads [aria-checked=true]").focus()
    keys.press("ArrowRight")
    assert hand.page.locator(".pg-readout").text_content().startswith("Layer 0, head 1")
    hand.page.locator(".pg-bars button").first.focus()
    keys.press("ArrowDown")
    before = len(hand.tokens)
    keys.press("Enter")
    hand.page.wait_for_function(f"document.querySelectorAll('.pg-tokens > *').length === {before + 1}")


def test_things_to_try_write_something(hand):
    """Would catch a button that leads to a model or a prompt that cannot be read."""
    for button in hand.page.locator(".pg-tries button").all():
        button.click()
        hand.page.wait_for_function("document.querySelector('.pg-tokens .pg-written')")
        hand.press("Stop")
        hand.page.wait_for_function(RESTS)


@pytest.mark.skipif(len(MODELS) < 2, reason="one model has been published")
def test_models_can_be_switched(hand):
    """Would catch a model that does not open, and what remains of the one before."""
    seen = {hand.page.locator(".pg-about").text_content()}
    for name, entry in list(MODELS.items())[1:]:
        hand.page.get_by_role("radio", name=entry["title"]).check(force=True)
        hand.page.wait_for_function(f"document.querySelector('.pg-card')?.textContent.includes('checkpoints {name}')")
        hand.ready()
        seen.add(hand.page.locator(".pg-about").text_content())
        assert hand.text
        assert hand.page.locator("textarea").get_attribute("lang") == entry["language"]
        hand.add(2)
    assert len(seen) == len(MODELS)


def test_what_cannot_be_read_is_said(hand):
    """Would catch a prompt that is silently changed, and a page that does not come back from one."""
    hand.type("")
    assert hand.status.startswith("A model must read something")
    hand.add(1)
    if next(iter(MODELS.values()))["tokenizer"].startswith("char"):
        hand.type("To 滚")
        assert "“滚” (U+6EDA), character 4 of the prompt" in hand.status
        assert hand.page.get_by_role("button", name="Write", exact=True).get_attribute("aria-disabled") == "true"
        hand.type("To be")
        assert hand.text == "To be"


def test_a_full_context_is_said_and_can_be_gone_on_from(hand):
    """Would catch a model that reads beyond its last position, or stops without a word."""
    most = int(re.search(r"([\d,]+) read at most", hand.page.locator(".pg-about").text_content())[1].replace(",", ""))
    words = "to be or not "
    hand.type((words * most)[: most + 1])
    if next(iter(MODELS.values()))["tokenizer"].startswith("char"):
        assert hand.status == f"The prompt has {most + 1} tokens; this model reads at most {most}. Shorten it."
        hand.type((words * most)[: most - 2])
        hand.press("Write")
        hand.page.wait_for_function(
            "document.querySelector('.pg-status').textContent.startsWith('The context is full')"
        )
        assert len(hand.tokens) == most
        assert hand.page.get_by_role("button", name="Write", exact=True).get_attribute("aria-disabled") == "true"
        hand.press("go on from its last half")
        hand.page.wait_for_function("document.querySelector('.pg-text').textContent.length > 300")
        hand.press("Stop")


def broken(browser, address, answer):
    """The page with `answer(route)` in place of its models."""
    page = browser.new_context().new_page()
    page.route("**/*.bin*", answer)
    page.goto(address + PAGE)
    return page


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda route: route.fulfill(status=404, body="none"), "the site answered 404"),
        (lambda route: route.abort(), "no connection to the site"),
        (lambda route: route.fulfill(status=200, body=route.fetch().body()[:100_000]), "cut short"),
        (lambda route: route.fulfill(status=200, body="<!doctype html><title>404</title>"), "not a model"),
    ],
    ids=["missing", "no line", "truncated", "something else"],
)
def test_a_model_that_does_not_come_is_said_and_can_be_asked_for_again(browser, address, answer, said):
    """Would catch a page that waits forever, or shows an error nobody understands."""
    page = broken(browser, address, answer)
    page.wait_for_function(FAILED)
    assert said in page.locator(".pg-status").text_content()
    page.unroute("**/*.bin*")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_function(READY)
    page.context.close()


def test_without_javascript_the_page_says_what_is_missing(browser, address):
    """Would catch an empty hole."""
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(address + PAGE)
    assert "switched off" in page.locator(".llm-playground").inner_text()
    page.context.close()


def test_without_a_worker_the_page_reads_itself(browser, address):
    """Would catch a page that depends on what a browser may refuse it."""
    page = browser.new_context().new_page()
    page.add_init_script("delete window.Worker")
    page.goto(address + PAGE)
    hand = Hand(page).ready()
    assert page.locator(".llm-playground").get_attribute("data-reads") == "page"
    hand.add(3)
    page.context.close()


def test_the_worker_is_used(hand):
    """Would catch a page that falls back to its own thread, and freezes while it reads."""
    assert hand.page.locator(".llm-playground").get_attribute("data-reads") == "worker"


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not tell what it serves."""

    def log_message(self, *_):
        pass


def test_it_works_below_any_address(browser, book):
    """Would catch a path from the root of the site: the book may lie in a folder of its host."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(book.build))) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{web.server_port}/{book.html.name}/{PAGE}")
        Hand(page).ready().add(1)
        page.context.close()
        web.shutdown()


def test_from_a_disk_it_says_what_to_do(browser, book):
    """Would catch a page that blames the line where a browser's own rule stands in the way."""
    page = browser.new_context().new_page()
    page.goto((book.html / PAGE).as_uri())
    page.wait_for_function(FAILED)
    assert "make serve" in page.locator(".pg-status").text_content()
    page.context.close()


def test_a_readers_own_model_opens_from_a_disk(browser, book):
    """Would catch a page that needs a server, or asks anything of anyone."""
    own = sorted((book.html / "_static" / "playground").glob("*.html"))
    if not own:
        pytest.skip("no chapter has been run that makes a page of its own model")
    for path in own:
        page = browser.new_context().new_page()
        asked = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(path.as_uri())
        hand = Hand(page).ready()
        hand.add(3)
        assert [url for url in asked if not url.startswith(("blob:", "data:"))] == [path.as_uri()]
        page.context.close()
