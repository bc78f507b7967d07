"""The playground as a reader has it: typing, dials, chance, models, and everything that can be missing."""

import functools
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmbook import published
from tests.site.pages import PHONE, WIDE

PAGE = "playground.html"
MODELS = published.manifest()
BEST_FIRST = sorted(MODELS.items(), key=lambda item: item[1]["bits_per_byte"])
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
RESTING = "document.querySelector('.pg-meter').textContent.includes(' for the last one')"
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
        self.page.wait_for_function(f"{RESTING} || document.querySelector('.pg-wrong')")

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
    hand.page.wait_for_function("document.querySelector('.pg-status').textContent.startsWith('Wrote')")
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
    for name, entry in BEST_FIRST[1:]:
        hand.page.get_by_role("radio", name=entry["title"]).check(force=True)
        hand.page.wait_for_function(f"document.querySelector('.pg-card')?.textContent.includes('model {name}')")
        hand.ready()
        seen.add(hand.page.locator(".pg-about").text_content())
        assert hand.text
        assert hand.page.locator("textarea").get_attribute("lang") == entry["language"]
        hand.add(2)
    assert len(seen) == len(MODELS)


LETTERS = "shakespeare-chars"
letters = pytest.mark.skipif(LETTERS not in MODELS, reason=f"{LETTERS} has not been published")
WRITTEN = "document.querySelector('.pg-status').textContent.startsWith('Wrote')"


def of_letters(opened, look=WIDE, rest=""):
    """The playground with the model that reads letters: its tokens can be counted by eye."""
    return Hand(opened(f"{PAGE}#model={LETTERS}{rest}", look)).ready()


@letters
def test_what_cannot_be_read_is_said_and_nothing_of_another_text_stays(opened):
    """Would catch a prompt that is silently changed, a page that does not come back from one, and bars, tokens or
    pictures of the text before it."""
    hand = of_letters(opened)
    hand.type("")
    assert hand.status.startswith("A model must read something")
    hand.add(1)
    hand.type("To 滚")
    assert "“滚” (U+6EDA), character 4 of the prompt" in hand.status
    assert hand.page.get_by_role("button", name="Write", exact=True).get_attribute("aria-disabled") == "true"
    assert (hand.tokens, hand.kept, hand.text) == ([], [], "")
    assert hand.page.locator(".pg-readout").text_content() == ""
    sizes = hand.page.locator(".pg-panels canvas").evaluate_all("(all) => all.map((canvas) => canvas.width)")
    assert set(sizes) == {1}
    hand.type("To be")
    assert hand.text == "To be"
    assert len(hand.tokens) == 5


@letters
def test_a_full_context_slides_and_escape_stops_from_anywhere(opened):
    """Would catch a model that stops where its context is full or reads beyond it, a prompt that is overwritten, a key
    that is heard only inside the playground, and a text that cannot be taken back beyond that border."""
    hand = of_letters(opened)
    start = ("to be or not " * 40)[:250]
    hand.type(start)
    hand.press("Write")
    hand.page.wait_for_function(
        "document.querySelector('.pg-status').textContent.includes('has forgotten the beginning')"
    )
    hand.page.wait_for_function("document.querySelector('.pg-meter').textContent.startsWith('26')")
    hand.page.evaluate("document.activeElement.blur()")
    hand.page.keyboard.press("Escape")
    hand.page.wait_for_function(WRITTEN)
    assert hand.page.locator("textarea").input_value() == start
    assert hand.text.startswith(start)
    assert len(hand.tokens) == len(hand.text) - 128
    assert "".join(hand.tokens) == hand.text[128:].replace(" ", "␣").replace("\n", "↵")
    while len(hand.text) > 256:
        before = len(hand.text)
        hand.press("Take one back")
        hand.page.wait_for_function(f"document.querySelector('.pg-text').textContent.length < {before}")
    assert len(hand.tokens) == len(hand.text) == 256


@letters
def test_escape_keeps_the_focus(opened):
    """Would catch a button that is taken from under the reader's hand, and the focus with it."""
    hand = of_letters(opened)
    hand.page.get_by_role("button", name="Write", exact=True).focus()
    hand.page.keyboard.press("Enter")
    hand.page.wait_for_function("document.querySelectorAll('.pg-tokens .pg-written').length > 3")
    hand.page.keyboard.press("Escape")
    hand.page.wait_for_function(WRITTEN)
    assert hand.page.evaluate("document.activeElement.textContent") == "Write"


PASTES = {
    "without a space": "thequickbrownfox",
    "with spaces": "the quick brown fox ",
    "Chinese": "话说天下大势分久必合",
}


@pytest.mark.parametrize("unit", PASTES.values(), ids=PASTES)
def test_a_long_paste_is_read_from_its_end(hand, unit):
    """Would catch a stack that overflows, a text that is refused for its length, and one that is cut without a word."""
    text = (unit * 130_000)[:130_000]
    hand.page.evaluate(FORGET)
    hand.page.evaluate(
        """(text) => {
          const box = document.querySelector("textarea");
          box.value = text;
          box.dispatchEvent(new Event("input"));
        }""",
        text,
    )
    said = "document.querySelector('.pg-status').textContent"
    hand.page.wait_for_function(f"{said}.startsWith('The prompt has') && {RESTING}")
    total, kept = (
        int(n.replace(",", "")) for n in re.search(r"has ([\d,]+) tokens.*the last (\d+) of them", hand.status).groups()
    )
    assert total > 30_000
    assert kept == len(hand.tokens) > 100
    assert hand.page.locator("textarea").input_value() == text
    assert hand.text.endswith(text[-50:])
    hand.add(1)


def test_a_reload_keeps_the_text(hand):
    """Would catch a text, an option or a model that a reload forgets, and a link that it takes away."""
    hand.page.get_by_role("radio", name=MODELS[LETTERS]["title"]).check(force=True)
    hand.page.wait_for_function(f"document.querySelector('.pg-card').textContent.includes('model {LETTERS}')")
    hand.ready()
    hand.type("My lord")
    hand.add(5)
    hand.turn("Temperature", 1.5)
    text = hand.text
    hand.page.reload()
    hand.ready()
    hand.page.wait_for_function("document.querySelector('.pg-status').textContent === 'Here is your text again.'")
    assert hand.text == text
    assert hand.page.locator("textarea").input_value() == "My lord"
    assert hand.page.get_by_role("slider", name="Temperature").input_value() == "1.5"
    hand.page.goto(hand.page.url.split("#")[0] + "#prompt=The%20king")
    hand.page.wait_for_function("document.querySelector('textarea').value === 'The king'")


def test_a_browser_that_remembers_nothing_is_said(browser, address):
    """Would catch a page that breaks where storage is refused, and a reader who trusts it."""
    page = browser.new_context().new_page()
    page.add_init_script("Object.defineProperty(window, 'sessionStorage', { get() { throw new Error('refused'); } })")
    page.goto(address + PAGE)
    hand = Hand(page).ready()
    hand.add(2)
    page.get_by_text("This browser lets the page remember nothing").wait_for()
    page.context.close()


def test_a_link_that_cannot_be_used_is_said(opened):
    """Would catch a fraction that is rounded in silence, and a step of a slider that is taken for another."""
    hand = Hand(opened(PAGE + "#seed=1.5&k=7&t=0.8&prompt=My", WIDE)).ready()
    hand.page.wait_for_function("document.querySelector('.pg-status').textContent.includes('seed=1.5')")
    assert hand.page.get_by_label("Seed").input_value() == "1"
    assert "Top-k 7 is set to 10, the nearest step." in hand.status


SHIFTS = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift = (window.shift ?? 0) + entry.value;
}).observe({ type: "layout-shift", buffered: true });"""


@pytest.mark.parametrize("look", [WIDE, PHONE], ids=str)
def test_nothing_moves_while_it_opens(browser, address, look):
    """Would catch a page that jumps under a reader's finger while the playground is built and the model comes."""
    page = browser.new_context(viewport={"width": look.width, "height": 800}).new_page()
    page.add_init_script(SHIFTS)
    page.goto(address + PAGE)
    Hand(page).ready()
    assert (page.evaluate("window.shift") or 0) < 0.1
    page.context.close()


def test_on_a_phone_the_button_the_text_and_the_bars_share_a_screen(opened):
    """Would catch a reader who presses Write and must scroll to see what it did."""
    hand = Hand(opened(PAGE, PHONE)).ready()
    hand.page.set_viewport_size({"width": 360, "height": 740})
    hand.add(1)
    sixth = hand.page.locator(".pg-bars tbody tr:not([hidden])").nth(5).bounding_box()
    write, text = (hand.page.locator(name).bounding_box() for name in (".pg-write", ".pg-text"))
    header = 60  # of the site, which stays on the screen
    assert write["y"] < text["y"] < sixth["y"]
    assert sixth["y"] + sixth["height"] - write["y"] <= 740 - header


@letters
def test_long_texts_are_drawn_so_that_they_can_be_read(opened):
    """Would catch pictures of 250 tokens in which one sees nothing: they show the last ones, and every one is bright
    somewhere."""
    hand = of_letters(opened)
    hand.type(("to be or not to be that is the question " * 10)[:250])
    sizes = hand.page.locator(".pg-heads canvas").evaluate_all("(all) => all.map((canvas) => canvas.width)")
    assert set(sizes) == {40}
    brightest = """(all) => all.map((canvas) => Math.max(...canvas.getContext("2d")
      .getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 1)))"""
    assert min(hand.page.locator(".pg-heads canvas").evaluate_all(brightest)) > 200  # yellow's green
    label = hand.page.locator(".pg-map").get_attribute("aria-label")
    assert re.search(r"triangle of \d\d rows \(positions \d+ to 249\)", label), label
    hand.page.locator(".pg-tokens > *").nth(10).click()
    assert "positions 0 to" in hand.page.locator(".pg-map").get_attribute("aria-label")


COUNT = """() => {
  window.drawn = { nodes: 0, pictures: 0 };
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...given) {
    drawn.pictures++;
    return put.apply(this, given);
  };
  new MutationObserver((all) => { drawn.nodes += all.length; }).observe(document.querySelector(".llm-playground"),
    { subtree: true, childList: true, characterData: true, attributes: true });
}"""


@letters
def test_a_token_costs_the_page_no_more_late_than_early(opened):
    """Would catch a page that draws all it has again for each token: what is drawn must not grow with the text."""
    hand = of_letters(opened)
    costs = []
    for n in (20, 220):
        hand.type(("to be or not to be that is the question " * 10)[:n])
        hand.page.evaluate(COUNT)
        hand.press("Write")
        hand.page.wait_for_function("document.querySelectorAll('.pg-tokens .pg-written').length > 25")
        counted = hand.page.evaluate("drawn")
        tokens = hand.page.locator(".pg-tokens .pg-written").count()
        hand.press("Stop")
        hand.page.wait_for_function(RESTS)
        costs.append({name: value / tokens for name, value in counted.items()})
    early, late = costs
    assert late["pictures"] < 8  # of 21: they follow now and then
    assert late["nodes"] < 2 * early["nodes"] + 60


def test_the_best_writer_comes_first_and_chinese_is_explained(hand):
    """Would catch a first impression made by the weakest model, and a button that only those who read Chinese can
    read."""
    best = BEST_FIRST[0][1]
    assert hand.page.get_by_role("radio", checked=True).first.get_attribute("value") == "0"
    assert hand.page.locator(".pg-models label").first.text_content() == best["title"]
    for label in hand.page.locator(".pg-tries button").all_text_contents():
        assert re.search("[A-Za-z]{3}", label), label


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
