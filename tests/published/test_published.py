"""The models that travel with the book are whole, are what their manifest says, and speak."""

import hashlib
import json
import math
import tomllib

import pytest
import torch

from llmbook import published
from llmbook.interop import PRETRAINED, load_pretrained
from llmbook.playground.writing import exported_bytes
from llmbook.text import load_corpus
from llmbook.training.recipe import read_recipe
from publishing.book import BookError
from publishing.models import MODELS, held_out, make, readme

MANIFEST = published.manifest()
FACTS = """title language prompt file bytes sha256 n_parameters tokenizer corpus licence citation valid loss
bits_per_byte steps tokens_trained_on minutes command commit device threads versions date samples"""


def held_out_text(name):
    recipe = read_recipe(published.recipe_path(name))
    return load_corpus(recipe.corpus).split(recipe.data.valid)[1]


def test_the_default_is_small_and_all_fit_the_package():
    """Catches a page that loads for long, and a package that grows by accident."""
    assert next(iter(MANIFEST)) == "shakespeare-chars"
    assert MANIFEST["shakespeare-chars"]["bytes"] < 3e6
    assert sum(entry["bytes"] for entry in MANIFEST.values()) <= 12e6
    setup = tomllib.loads((published.FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = setup["tool"]["setuptools"]["package-data"]["llmbook"]
    carried = {path for pattern in patterns for path in published.FOLDER.parent.glob(pattern)}
    assert {published.FOLDER / e["file"] for e in MANIFEST.values()} | {published.MANIFEST} <= carried


@pytest.mark.parametrize("name", MANIFEST)
def test_the_manifest_is_complete_and_true(name):
    """Catches a file that was changed after it was described, a fact left out, a README that tells another story."""
    entry = MANIFEST[name]
    assert [fact for fact in FACTS.split() if entry.get(fact) in (None, "", [])] == []
    content = published.weights_path(name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert entry["command"] == f"python -m publishing model {name}"
    assert entry["corpus"] == read_recipe(published.recipe_path(name)).corpus
    assert entry["steps"] == read_recipe(published.recipe_path(name)).train.steps
    assert entry["licence"] == load_corpus(entry["corpus"]).licence
    assert not entry["commit"].endswith("dirty")
    assert len(entry["samples"]) == len(MODELS[name].prompts)
    page = (published.FOLDER / "README.md").read_text(encoding="utf-8")
    assert page == readme(MANIFEST) + "\n"


@pytest.mark.parametrize("name", MANIFEST)
def test_the_weights_are_those_of_the_page(name):
    """Catches weights that Python and the page would round differently."""
    model, tokenizer = load_pretrained(name)
    assert all(torch.equal(p, p.half().float()) for p in model.parameters())
    assert exported_bytes(model, tokenizer) == published.weights_path(name).read_bytes()
    assert model.num_parameters() == MANIFEST[name]["n_parameters"]
    assert model.config.max_seq_len >= 128


@pytest.mark.parametrize("name", MANIFEST)
def test_the_model_is_as_good_as_it_says(name):
    """Catches weights in the wrong order or half trained: the loss on held-out text, within what a part may differ."""
    model, tokenizer = load_pretrained(name)
    tokens = torch.tensor(tokenizer.encode(held_out_text(name)[-6000:]))
    found = held_out(model, tokenizer, tokens, seq_len=model.config.max_seq_len)
    assert abs(found["bits_per_byte"] / MANIFEST[name]["bits_per_byte"] - 1) < 0.15
    assert found["loss"] < 0.7 * math.log(model.config.vocab_size)


@pytest.mark.parametrize("name", MANIFEST)
def test_every_character_is_spelt_or_named(name):
    """Catches a prompt that ends in a crash: what a model cannot read must be said."""
    _, tokenizer = load_pretrained(name)
    for text in ("ROMEO:\n", "滚滚长江", "🙂", "é"):
        if tokenizer.kind == "char" and text[0] not in tokenizer.characters:
            with pytest.raises(ValueError, match=f"character '{text[0]}'"):
                tokenizer.encode(text)
        else:
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_names_are_known_everywhere():
    """Catches a model that is published and cannot be loaded, and a name that gives nothing."""
    assert set(MANIFEST) < set(PRETRAINED)
    assert set(MODELS) == {path.stem for path in published.FOLDER.glob("*.json")} - {"manifest"}
    with pytest.raises(ValueError, match="no recipe 'hamlet'; there are sanguo-bpe, shakespeare-bpe"):
        published.recipe_path("hamlet")
    with pytest.raises(ValueError, match="no model 'hamlet' is published"):
        published.weights_path("hamlet")
    with pytest.raises(BookError, match="there is no model 'hamlet'; there are shakespeare-chars"):
        make("hamlet")


def test_one_command_trains_and_publishes(tmp_path, monkeypatch):
    """Catches a command that stops between training and the page, or touches what it does not make."""
    recipe = {
        "model": {"preset": "modern", "conv_width": None, "d_model": 8, "n_layers": 1, "n_heads": 2, "max_seq_len": 16},
        "corpus": "shakespeare-plays",
        "tokenizer": "char",
        "train": {"steps": 2, "optimizer": "muon"},
        "data": {"batch_size": 2, "seq_len": 16, "valid": 0.0005},
        "folder": str(tmp_path / "run"),
    }
    (tmp_path / "shakespeare-chars.json").write_text(json.dumps(recipe), encoding="utf-8")
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    monkeypatch.setattr(published, "MANIFEST", tmp_path / "manifest.json")
    assert make("shakespeare-chars") == 0
    (entry,) = published.manifest().values()
    assert (entry["steps"], entry["tokens_trained_on"]) == (2, 2 * 2 * 16)
    assert hashlib.sha256((tmp_path / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert entry["samples"][0].strip("\n") in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert make("shakespeare-chars") == 0  # once more: nothing is left to train
