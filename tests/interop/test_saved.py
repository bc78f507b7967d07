"""A saved model is the model, and what is not one is refused by name."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from llmbook.interop import load_model, save_model, save_trained
from llmbook.model import (
    LSTMLM,
    DecoderLM,
    Encoder,
    EncoderDecoderLM,
    MaskedLM,
    SequenceClassifier,
    TokenClassifier,
    TransformerConfig,
)
from llmbook.text import BPETokenizer, ByteTokenizer, CharTokenizer, HFTokenizer
from tests.model.helpers import OUTPUT, SANDWICH, random_ids, shake
from tests.training.helpers import tiny_trainer

TEXT = "abcdefghijklmnopqrstuvwxyz .,!?"  # 31 characters, the vocabulary of the models here
CHARACTERS = CharTokenizer.train(TEXT)
SIZES = dict(vocab_size=31, max_seq_len=32, d_model=24, n_layers=2, n_heads=4)
MODELS = {
    "gpt2": lambda: DecoderLM(TransformerConfig.gpt2(**SIZES)),
    "llama": lambda: DecoderLM(TransformerConfig.llama(**SIZES, tie_embeddings=False)),
    "alibi": lambda: DecoderLM(TransformerConfig(**SIZES, positions="alibi")),
    "sandwich": lambda: DecoderLM(TransformerConfig(**SIZES, **SANDWICH)),
    "output": lambda: DecoderLM(TransformerConfig(**SIZES, **OUTPUT)),
    "t5": lambda: EncoderDecoderLM(TransformerConfig.t5(**SIZES, n_decoder_layers=1)),
    "encoder": lambda: Encoder(TransformerConfig.bert(**SIZES)),
    "words": lambda: MaskedLM(TransformerConfig.bert(**SIZES)),
    "texts": lambda: SequenceClassifier(
        Encoder(TransformerConfig.bert(**SIZES)), n_labels=3, pooling="max", pooler_layer=False, dropout=0.1
    ),
    "rewards": lambda: SequenceClassifier(
        DecoderLM(TransformerConfig.gpt2(**SIZES)).backbone, n_labels=1, pooling="last", pooler_layer=False
    ),
    "tokens": lambda: TokenClassifier(Encoder(TransformerConfig.bert(**SIZES)), n_labels=3),
}


def run(model):
    ids = random_ids(2, 9)
    extra = {"decoder_input_ids": ids} if isinstance(model, EncoderDecoderLM) else {}
    with torch.no_grad():
        out = model(ids, **extra)
    return out.last_hidden_state if out.logits is None else out.logits


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_model_comes_back(kind, tmp_path):
    """A setting, a tensor or a table that is not drawn lost on the way; training mode kept; tied weights come loose; a
    causal backbone that reads both ways from then on."""
    model = shake(MODELS[kind]())
    save_model(tmp_path / "m", model, CHARACTERS)
    again, tokenizer = load_model(tmp_path / "m")
    assert type(again) is type(model)
    assert again.config == model.config
    assert not again.training
    assert torch.equal(run(again), run(model))
    assert tokenizer.encode("a cat.") == CHARACTERS.encode("a cat.")
    names = {name for name, _ in model.named_parameters()}
    assert {name for name, _ in again.named_parameters()} == names  # tied parameters are one parameter again
    assert set(load_file(tmp_path / "m" / "model.safetensors")) == names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
    if kind == "texts":
        assert again.dropout.p == 0.1


def test_a_classifier_saved_before_bodies_could_be_causal(tmp_path):
    """Catches an older folder, which does not say that its backbone reads both ways, refused or misread."""
    model = shake(MODELS["texts"]())
    save_model(tmp_path / "m", model, CHARACTERS)
    path = tmp_path / "m" / "config.json"
    values = json.loads(path.read_text())
    assert values["head"].pop("causal") is False
    path.write_text(json.dumps(values))
    again, _ = load_model(tmp_path / "m")
    assert torch.equal(run(again), run(model))


def test_types_are_kept(tmp_path):
    """bfloat16 widened on loading, one layer in float32 narrowed, or angles rounded with the rest."""
    model = shake(MODELS["llama"]()).bfloat16()
    model.backbone.final_norm.float()
    save_model(tmp_path / "m", model, CHARACTERS)
    again, _ = load_model(tmp_path / "m")
    for (name, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name
    assert again.backbone.rotary.frequencies.dtype == torch.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda: ByteTokenizer(),
        lambda: BPETokenizer.train("the cat sat on the mat " * 9, vocab_size=260),
        lambda: HFTokenizer.train("the cat sat on the mat " * 9, vocab_size=260, special_tokens=["<end>"]),
    ],
)
def test_every_tokenizer_comes_back(make, tmp_path):
    """A tokenizer saved as another kind; special tokens or a chat template forgotten."""
    tokenizer = make()
    tokenizer.chat_template = "{{ messages }}"
    model = DecoderLM(TransformerConfig.gpt2(**{**SIZES, "vocab_size": tokenizer.vocab_size}))
    save_model(tmp_path / "m", model, tokenizer)
    again = load_model(tmp_path / "m")[1]
    assert type(again) is type(tokenizer)
    assert again.encode("the mat <end> 你") == tokenizer.encode("the mat <end> 你")
    if isinstance(tokenizer, HFTokenizer):
        assert again.chat_template == "{{ messages }}"


def test_a_model_is_replaced_and_nothing_else(tmp_path):
    """An old tensor left among new ones; a reader's folder overwritten."""
    first, second = shake(MODELS["gpt2"]()), shake(MODELS["llama"](), 0.3)
    save_model(tmp_path / "deep" / "m", first, CHARACTERS)
    save_model(tmp_path / "deep" / "m", second, CHARACTERS)
    assert torch.equal(run(load_model(tmp_path / "deep" / "m")[0]), run(second))
    (tmp_path / "deep" / "m" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="m is not empty and holds no model"):
        save_model(tmp_path / "deep" / "m", first, CHARACTERS)
    assert (tmp_path / "deep" / "m" / "notes.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["m"]


@pytest.mark.parametrize("config", ['{"model_type": "llama"}', "{", None])
def test_a_foreign_model_in_files_of_the_same_names_is_not_replaced(config, tmp_path):
    """A download of somebody else's, whose three files are called as ours, taken for an older model of ours."""
    foreign = {"model.safetensors": "theirs", "tokenizer.json": "{}"} | ({"config.json": config} if config else {})
    for name, content in foreign.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="is not empty and holds no model"):
        save_model(tmp_path, MODELS["gpt2"](), CHARACTERS)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == foreign


def test_a_failed_save_leaves_the_old_model(tmp_path, monkeypatch):
    """A disk that is full halfway through."""
    model = shake(MODELS["gpt2"]())
    save_model(tmp_path / "m", model, CHARACTERS)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(CharTokenizer, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path / "m", shake(MODELS["gpt2"](), 0.5), CHARACTERS)
    assert torch.equal(run(load_model(tmp_path / "m")[0]), run(model))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failed_exchange_brings_the_old_model_back(tmp_path, monkeypatch):
    """Both models gone because the new one could not take the place of the old."""
    model = shake(MODELS["gpt2"]())
    save_model(tmp_path / "m", model, CHARACTERS)
    rename = os.replace

    def refuse_the_new(source, target):
        if str(source).endswith(".new"):
            raise OSError("Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse_the_new)
    with pytest.raises(OSError, match="busy"):
        save_model(tmp_path / "m", shake(MODELS["gpt2"](), 0.5), CHARACTERS)
    assert torch.equal(run(load_model(tmp_path / "m")[0]), run(model))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "m", shake(MODELS["gpt2"]()), CHARACTERS)
    return tmp_path / "m"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(saved, name):
    """A traceback from deep inside a reader of files."""
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is not there.*three files"):
        load_model(saved)


def change(saved, **values):
    path = saved / "config.json"
    values = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def test_what_does_not_fit_is_named(saved):
    """A file cut short, a configuration or weights of another model, taken as far as they go."""
    config = (saved / "config.json").read_text()
    for values, message in (
        ({"format": "x"}, "config.json was not written by save_model"),
        ({"version": 9}, "version 9, this llmbook reads 1"),
        ({"class": "Mamba"}, "config.json does not describe a model.*Mamba"),
        ({"config": {"hidden_size": 9}}, "hidden_size"),
        ({"shared": None}, "config.json is damaged: it lacks shared"),
        ({"config": {**json.loads(config)["config"], "n_layers": 3}}, r"model.safetensors.*blocks\.2"),
        ({"config": {**json.loads(config)["config"], "d_ff": 12}}, r"model.safetensors.*shape \(96, 24\)"),
    ):
        change(saved, **values)
        with pytest.raises(ValueError, match=message):
            load_model(saved)
        (saved / "config.json").write_text(config)
    (saved / "config.json").write_text(config[:40])
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_model(saved)
    (saved / "config.json").write_text(config)
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut short"):
        load_model(saved)


def test_a_tokenizer_of_another_vocabulary_is_refused(saved, tmp_path):
    """Numbers that mean other words, or none."""
    with pytest.raises(ValueError, match="vocabulary of 31 and the tokenizer one of 256"):
        save_model(tmp_path / "n", MODELS["gpt2"](), ByteTokenizer())
    assert not (tmp_path / "n").exists()
    ByteTokenizer().save(saved / "tokenizer.json")
    with pytest.raises(ValueError, match="vocabulary of 31 and the tokenizer one of 256"):
        load_model(saved)


def test_an_unknown_class_is_refused(tmp_path):
    """A folder nothing can open again."""
    with pytest.raises(ValueError, match="a LSTMLM cannot be saved here; known are DecoderLM"):
        save_model(tmp_path / "m", LSTMLM(vocab_size=31, d_model=8), CHARACTERS)


def test_a_changed_model_is_refused(tmp_path):
    """Adapters written beside the weights, into a folder that cannot be opened again."""
    model = MODELS["gpt2"]()
    model.backbone.blocks[1].adapter = torch.nn.Linear(24, 2)
    with pytest.raises(ValueError, match=r"not those of its class: backbone\.blocks\.1\.adapter\.bias.*2 in all"):
        save_model(tmp_path / "m", model, CHARACTERS)
    assert not (tmp_path / "m").exists()


def test_a_training_checkpoint_becomes_a_folder(tmp_path):
    """The last weights in place of the best, or those of a fresh model."""
    trainer = tiny_trainer(tmp_path / "run")
    trainer.run()
    tokenizer = CharTokenizer.train("abcdefghijk")
    model = save_trained(tmp_path / "run" / "last.pt", tmp_path / "m", tokenizer)
    again, _ = load_model(tmp_path / "m")
    for (name, a), b, c in zip(trainer.model.named_parameters(), again.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert torch.equal(a, c), name
    with pytest.raises(ValueError, match=r"last\.pt belongs to another model"):
        save_trained(tmp_path / "run" / "last.pt", tmp_path / "n", tokenizer, model_class=Encoder)
