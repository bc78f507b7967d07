"""The living line: its first state in the markup, its settings, what it refuses."""

import html
import json
import re

import pytest
import torch

from llmbook.inference import Sampling
from llmbook.interop import load_pretrained
from llmbook.playground import PageError, live_model
from publishing import playground
from publishing.book import BookError

NAME = "shakespeare-bpe"


@pytest.fixture(scope="module")
def writer():
    return load_pretrained(NAME)


def chances(writer, line):
    model, tokenizer = writer
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer.encode(line)])).logits[:, -1]
    return Sampling(temperature=0.8).distribution(logits)[0]


def test_the_first_state_is_that_of_the_run(writer, monkeypatch):
    """Catches bars of other tokens than the likeliest, text that becomes markup, and a site whose page carries 3 MB."""
    monkeypatch.setenv("LLMBOOK_STATIC", "1")
    line = "I <b> love"
    p = chances(writer, line)
    page = live_model(*writer, line, p, published=NAME, temperature=0.8)._repr_mimebundle_()["text/html"]
    top = p.argsort(descending=True)[:6].tolist()
    assert [int(i) for i in re.findall(r'data-token="(\d+)"', page)] == top
    assert html.unescape(re.search(r"<b>([^<]*)</b>", page)[1]) == writer[1].token(top[0])
    assert html.unescape("".join(re.findall(r"<span>([^<]*)</span>", page.split("<ol")[0])[1:])) == line
    assert "<b> love" not in page
    assert len(page) < 5000


def test_the_site_is_told_of_the_file(writer, monkeypatch):
    """Catches a page that asks for a model under a name the site does not have, and one that nobody published."""
    monkeypatch.setenv("LLMBOOK_STATIC", "1")
    made = [
        live_model(*writer, "To", chances(writer, "To"), published=name)._repr_mimebundle_()["text/html"]
        for name in (NAME, "none")
    ]
    told = json.loads(re.search(r'json">(.*?)</script>', playground.live(f"<p>{made[0]}</p>"))[1])
    assert told["file"].startswith(f"{NAME}.bin.gz?v=")
    assert told["bytes"] > 1e6
    assert "model" not in told
    assert playground.live("<p>no figure</p>") is None
    with pytest.raises(BookError, match="no such model is published"):
        playground.live(made[1])


def test_a_notebook_carries_the_model_along(writer, monkeypatch):
    """Catches a frame that asks a site for the model, and a page that ends at its first quotation mark."""
    monkeypatch.setenv("LLMBOOK_STATIC", "0")
    shown = live_model(*writer, 'He said "no', chances(writer, 'He said "no'), published=NAME)._repr_mimebundle_()
    page = html.unescape(re.search(r'srcdoc="([^"]*)"></iframe>$', shown["text/html"])[1])
    assert json.loads(re.search(r'json">(.*?)</script>', page)[1])["data"] == "lv-model"
    assert 'id="lv-model"' in page
    assert "src=" not in page.split("<script>")[0]


def test_what_does_not_fit_is_refused(writer):
    """Catches chances of another vocabulary, numbers that are no probabilities, and a line that is none."""
    p = chances(writer, "To")
    for line, wrong, words in (("To", p[:-1], "2047 chances"), ("To", p * 2, "sum to 2"), ("", p, "prompt is empty")):
        with pytest.raises(PageError, match=words):
            live_model(*writer, line, wrong, published=NAME)
