"""The playground's page: filled from the manifest, with the models beside it, and chapters' own pages published."""

import base64
import gzip
import json
import re

import pytest

from llmbook import published
from publishing import playground
from publishing.book import ROOT, BookError

ENTRY = {
    "title": "Plays <&>", "language": "en", "prompt": "A:\n", "file": "plays.bin", "bytes": 5, "sha256": "ab" * 32,
    "n_parameters": 7, "tokenizer": "char, 65 tokens", "corpus": "plays", "licence": "public domain", "valid": 0.1,
    "loss": 1.5, "bits_per_byte": 2.1641, "steps": 1200, "tokens_trained_on": 3_400_000, "minutes": 12.3,
    "command": "python -m publishing model plays", "device": "a CPU", "threads": 1, "date": "2026-01-02",
    "commit": "0123abc",
}  # fmt: skip


@pytest.fixture
def one_model(monkeypatch, tmp_path):
    """One model of five bytes, of two that have a recipe."""
    for name in ("plays", "novel"):
        (tmp_path / f"{name}.json").write_text("{}")
    (tmp_path / "plays.bin").write_bytes(b"12345")
    (tmp_path / "manifest.json").write_text(json.dumps({"plays": ENTRY}))
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    monkeypatch.setattr(published, "MANIFEST", tmp_path / "manifest.json")


def mount(given):
    return f'<h1>x</h1><div class="llm-playground"><script type="application/json">{given}</script></div><p>y</p>'


def told(page):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


def test_the_page_is_told_of_every_published_model(one_model):
    """Catches a model that is offered before it is there, an address that holds at the site's root alone, and a file
    that a browser takes from its cache when another model has come."""
    given = json.dumps({"tries": [{"label": "a", "model": "plays"}, {"label": "b", "model": "novel"}]})
    page = playground.fill(mount(given), lambda path: f"../{path}")
    assert "<noscript>" in page
    assert "Plays <&>" not in page.split("</script>")[0].replace("\\u003c", "")  # no markup of its own
    settings = told(page)
    (model,) = settings["models"]
    assert model["url"] == "../_static/playground/plays.bin.gz?v=abababababab"
    assert (model["id"], model["name"], model["lang"], model["prompt"]) == ("plays", "Plays <&>", "en", "A:\n")
    assert settings["tries"] == [{"label": "a", "model": "plays"}]
    card = dict(model["card"])
    assert card["Has read"] == "plays (public domain), all but 10.0%"
    assert card["Made by"] == ENTRY["command"]
    assert card["Loss"].startswith("1.500 nats a token, 2.164 bits a byte")
    assert card["Training"] == "1,200 steps, 3.4 million tokens, 12 min on a CPU (1 thread)"


def test_settings_that_cannot_be_followed_are_refused(one_model):
    """Catches a button that opens nothing."""
    for given, said in (('{"tries": [', "playground: .*"), ('{"tries": [{"model": "poems"}]}', "no recipe 'poems'")):
        with pytest.raises(BookError, match=said):
            playground.fill(mount(given), str)


def test_a_checkout_without_models_says_so(one_model, monkeypatch, tmp_path):
    """Catches a page that waits for what will not come."""
    monkeypatch.setattr(published, "MANIFEST", tmp_path / "none.json")
    assert "No model has been published yet" in playground.fill(mount("{}"), str)


def test_the_files_lie_where_the_page_looks_for_them(one_model, tmp_path):
    """Catches a page whose models are elsewhere."""
    playground.copy_models(tmp_path / "_static")
    there = (tmp_path / "_static/playground/plays.bin.gz").read_bytes()
    assert gzip.decompress(there) == b"12345"
    assert told(playground.fill(mount("{}"), str))["models"][0]["bytes"] == len(there)  # what the progress counts to


def test_a_chapters_own_page_is_published_and_linked(tmp_path):
    """Catches a chapter that carries a model, a link to nowhere, and two chapters that write the same file."""
    page = b"<!doctype html><title>mine</title>"
    along = f'<script type="text/plain" data-page="mine.html">{base64.b64encode(page).decode()}</script>'
    body = f"<p>one</p><p>mine.html: 0.1 MB, opens in any browser</p>{along}<p>two</p>"
    done = playground.publish_own(body, tmp_path, "chapters/a/b", lambda path: f"../../{path}")
    (link,) = re.findall(r'href="([^"]*)"', done)
    assert (tmp_path / "chapters/a" / link).resolve().read_bytes() == page
    assert link.endswith("chapters-a-b-mine.html")
    assert "<script" not in done
    assert done.startswith("<p>one</p>")
    assert done.endswith("<p>two</p>")


def test_the_books_own_page_has_its_mount_point():
    """Catches a page from which a change of its Markdown took the playground, and a weaker writer before a better."""
    text = (ROOT / "playground.md").read_text(encoding="utf-8")
    assert playground.present(text)
    page = playground.fill(text, str)
    if known := published.manifest():
        best_first = sorted(known, key=lambda name: known[name]["bits_per_byte"])
        assert [model["id"] for model in told(page)["models"]] == best_first
