"""The page's file, opened in Python."""

import json

import pytest
import torch

from llmbook.interop.exported import load_exported
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.playground import export_model, round_to_half
from llmbook.playground.reading import MAGIC
from llmbook.text import BPETokenizer, CharTokenizer

TEXT = "To be, or not to be: 滚滚长江东逝水 🙂\n" * 4
SIZES = dict(max_seq_len=32, d_model=24, n_layers=2, n_heads=4)
FAMILIES = {
    "modern": TransformerConfig.modern(vocab_size=270, **SIZES, conv_width=None),
    "gpt2": TransformerConfig.gpt2(vocab_size=270, **SIZES),
    "llama, untied": TransformerConfig.llama(vocab_size=270, tie_embeddings=False, **SIZES),
    "alibi": TransformerConfig(vocab_size=270, positions="alibi", **SIZES),
}


def bpe():
    return BPETokenizer.train(TEXT, vocab_size=270)


def random_model(config):
    model = DecoderLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return round_to_half(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_written_is_what_is_read(name, tmp_path):
    """Catches a tensor read from the wrong place, a tied table left at random, another tokenizer."""
    model, tokenizer = random_model(FAMILIES[name]), bpe()
    read, words = load_exported(export_model(model, tokenizer, tmp_path / "m.bin"))
    assert not read.training
    assert read.config == model.config
    assert words.to_dict() == tokenizer.to_dict()
    ids = torch.tensor([tokenizer.encode("To be 滚🙂")])
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits, atol=0, rtol=0)


def test_a_file_that_is_none_or_half_is_refused(tmp_path):
    """Catches weights that are whatever memory held."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "m.bin")
    content = path.read_bytes()
    for n in (len(content) - 1, 200, 9):
        path.write_bytes(content[:n])
        with pytest.raises(ValueError, match=r"m\.bin is damaged"):
            load_exported(path)
    path.write_bytes(b"<!doctype html>")
    with pytest.raises(ValueError, match="not a model written by export_model"):
        load_exported(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [({"bytes": 0}, "its header lacks config, tensors, tokenizer"), ([1], "damaged"), ({"bytes": None}, "damaged")],
)
def test_a_header_that_lacks_a_part_is_refused_by_name(header, message, tmp_path):
    """Catches Python's KeyError and TypeError in place of the file's name and what to do."""
    text = json.dumps(header).encode()
    path = tmp_path / "m.bin"
    path.write_bytes(MAGIC + len(text).to_bytes(4, "little") + text)
    with pytest.raises(ValueError, match=rf"m\.bin is damaged.*{message}|m\.bin is {message}"):
        load_exported(path)


def test_t5s_table_cannot_be_had_back(tmp_path):
    """Catches a model whose distances are random numbers."""
    letters = CharTokenizer.train("abc")
    config = TransformerConfig(vocab_size=3, positions="t5", **SIZES)
    with pytest.raises(ValueError, match="T5's biases"):
        load_exported(export_model(random_model(config), letters, tmp_path / "m.bin"))
