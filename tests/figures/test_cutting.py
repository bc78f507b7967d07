"""The explorer that cuts what one types: the script's tokens are the library's."""

import json
import re
import shutil
import subprocess

import pytest

from llmbook.figures import FigureError, token_explorer
from llmbook.figures.cutting import SCRIPT, SCRIPTS, _merges
from llmbook.text import BPETokenizer, CharTokenizer

TEXT = "low lower lowest, the lower the low; 汉字 汉字表 the 汉字\n\n  if x == 12:\n\treturn x  # naïve 🙂🙂 it's\n" * 3
NODE = shutil.which("node")


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT, vocab_size=320)


@pytest.mark.skipif(NODE is None, reason="there is no node to run the page's JavaScript")
def test_the_page_cuts_as_the_library_does(tokenizer):
    """Catches another word border, merge order or byte order in the script, at any size of the vocabulary."""
    program = """
        const { Cutter } = require(process.argv[1]);
        const { merges, jobs } = JSON.parse(require("node:fs").readFileSync(0, "utf8")), cutter = new Cutter(merges);
        console.log(JSON.stringify(jobs.map(([text, size]) => {
          const ids = cutter.encode(text, size);
          return [ids, ids.map((id) => cutter.token(id))];
        })));"""
    texts = ["", "lowest", TEXT, "12 345 ½ x_y  \n \n", "汉字典 🙂 e\u0301 \u00a0 'll don't", "\x00\x1c a\u3000b"]
    jobs = [(text, size) for text in texts for size in (256, 261, 290, tokenizer.vocab_size)]
    given = json.dumps({"merges": _merges("it", tokenizer), "jobs": jobs})
    done = subprocess.run([NODE, "-e", program, str(SCRIPT)], input=given, capture_output=True, text=True, check=True)
    for (text, size), (ids, tokens) in zip(jobs, json.loads(done.stdout), strict=True):
        small = tokenizer.prefix(size)
        assert ids == small.encode(text), (text, size)
        assert tokens == small.tokens(text), (text, size)


@pytest.mark.skipif(NODE is None, reason="there is no node to run the page's JavaScript")
def test_a_long_text_without_a_space_is_cut_like_any_other(tokenizer):
    """Catches work that grows with the square of a word's length, a spread that overflows the stack, and merges in
    another order once a word is long: 130,000 letters must give Python's tokens, in twice the steps of 65,000."""
    program = """
        const { Cutter } = require(process.argv[1]);
        const { merges, texts } = JSON.parse(require("node:fs").readFileSync(0, "utf8")), cutter = new Cutter(merges);
        console.log(JSON.stringify(texts.map((text) => {
          const steps = cutter.encoding(text);
          for (let n = 1; ; n++) { const { done, value } = steps.next(); if (done) return [n, value]; }
        })));"""
    units = ["lowerlowestthe", "汉字汉字表", " "]
    texts = [(unit * n)[:n] for unit in units for n in (65_000, 130_000)]
    given = json.dumps({"merges": _merges("it", tokenizer), "texts": texts})
    done = subprocess.run([NODE, "-e", program, str(SCRIPT)], input=given, capture_output=True, text=True, check=True)
    counts, found = zip(*json.loads(done.stdout), strict=True)
    assert list(found) == [tokenizer.encode(text) for text in texts]
    for half, whole in zip(counts[::2], counts[1::2], strict=True):
        assert 10 < whole < 2.2 * half


@pytest.mark.skipif(NODE is None, reason="there is no node to run the page's JavaScript")
def test_a_long_text_lets_the_page_breathe(tokenizer):
    """Catches a page that freezes while it cuts: with a clock that goes on 5 ms at every look, one in four looks is
    followed by a pause; and a text that is given up is not cut to its end."""
    program = """
        const { Cutter } = require(process.argv[1]), { inSlices } = require(process.argv[2]);
        const { merges, text } = JSON.parse(require("node:fs").readFileSync(0, "utf8")), cutter = new Cutter(merges);
        let time = 0, looks = 0, pauses = 0;
        const look = () => { looks++; return time += 5; };
        Object.defineProperty(globalThis, "performance", { value: { now: look } });
        globalThis.setTimeout = (then) => { pauses++; then(); };
        (async () => {
          const ids = await inSlices(cutter.encoding(text)), counted = [looks, pauses];
          const none = await inSlices(cutter.encoding(text), () => pauses > counted[1] + 2);
          console.log(JSON.stringify({ same: String(ids) === String(cutter.encode(text)), counted, none, pauses }));
        })();"""
    given = json.dumps({"merges": _merges("it", tokenizer), "text": "lowerlowestthe" * 9000})
    command = [NODE, "-e", program, *map(str, SCRIPTS[::-1])]
    found = json.loads(subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout)
    looks, pauses = found["counted"]
    assert found["same"]
    assert pauses >= looks / 5 > 5
    assert (found["none"], found["pauses"]) == (None, pauses + 3)


def test_the_first_state_stands_in_the_page(tokenizer):
    """Catches an explorer that is empty without JavaScript, ids of other tokens, and text that becomes markup."""
    shown = token_explorer({"us": tokenizer}, {"a": "the <b>", "b": "x"}, sizes=[256, 300], size=300, title="Cut")
    strip = re.search(r'data-part="tokens"[^>]*>(.*?)</div>', shown.markup)[1]
    tokens = re.findall(r"<span[^>]*>(.*?)</span>", strip)
    assert tokens == [t.replace("<", "&lt;").replace(">", "&gt;") for t in tokenizer.prefix(300).tokens("the <b>")]
    ids = re.search(r'data-part="ids">ids: ([\d ]+)<', shown.markup)[1]
    assert [int(i) for i in ids.split()] == tokenizer.prefix(300).encode("the <b>")
    assert "<b>" not in shown.markup
    assert "Cut" in shown._repr_mimebundle_()["text/plain"]


def test_bad_requests_are_refused(tokenizer):
    """Catches a tokenizer without merges and sizes that are none."""
    good = dict(texts={"a": "x"}, sizes=[256, 300], size=300, title="Cut")
    with pytest.raises(FigureError, match="CharTokenizer"):
        token_explorer({"us": CharTokenizer.train("ab")}, **good)
    for wrong in ({"sizes": [300, 256]}, {"sizes": [100, 300]}, {"size": 299}, {"texts": {}}):
        with pytest.raises(FigureError):
            token_explorer({"us": tokenizer}, **{**good, **wrong})
