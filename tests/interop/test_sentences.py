"""Sentence vectors as sentence-transformers defines them: mean over real tokens, then length 1."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from llmbook.interop import load_pretrained, sentence_vectors
from tests.weights import real_weights

TEXTS = [
    "A man is eating food.",
    "The cat sat on the mat because it was tired, and then it slept for the whole of the afternoon.",
    "",
    "Someone is having a meal.",
    "你好，世界",
    "Prices of shares fell 3.5% on Tuesday!",
]


@pytest.fixture(scope="module")
def minilm():
    real_weights("minilm")
    return load_pretrained("minilm")


def test_equal_to_the_reference(minilm):
    """Padding in the mean, special tokens left out of it, length not 1, or answers in the order of the batches."""
    files = real_weights("minilm")
    bert = BertModel(BertConfig(**json.loads(files["config.json"].read_text())), add_pooling_layer=False).eval()
    weights = load_file(files["model.safetensors"])
    bert.load_state_dict({n: w for n, w in weights.items() if "pooler" not in n and "position_ids" not in n})
    cut = PreTrainedTokenizerFast(tokenizer_file=str(files["tokenizer.json"]), pad_token="[PAD]")
    batch = cut(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    real = batch["attention_mask"][..., None].float()
    expected = F.normalize((hidden * real).sum(1) / real.sum(1), dim=1)
    for batch_size in (2, 32):
        found = sentence_vectors(*minilm, TEXTS, batch_size=batch_size)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(TEXTS)))
    likeness = found @ found.T
    assert likeness[0, 3] > 0.6 > likeness[0, 5]


def test_a_long_text_is_cut_with_its_last_mark(minilm):
    """Positions beyond the model's, or [SEP] lost where the text is cut."""
    model, tokenizer = minilm
    long = "word " * 20
    ids = tokenizer.encode("word " * 6, add_special_tokens=True)
    assert len(ids) == 8
    cut = sentence_vectors(model, tokenizer, [long], max_tokens=8)
    torch.testing.assert_close(cut, sentence_vectors(model, tokenizer, ["word " * 6]))


def test_no_texts_and_wrong_texts(minilm):
    """A single text read as a list of letters; a limit the model does not have."""
    assert sentence_vectors(*minilm, []).shape == (0, 384)
    with pytest.raises(TypeError, match="give a list"):
        sentence_vectors(*minilm, "one text")
    with pytest.raises(ValueError, match="max_tokens=1000 must lie between 3 and max_seq_len=512"):
        sentence_vectors(*minilm, ["a"], max_tokens=1000)
