"""Scores of next tokens behind a shared beginning equal those of each text read alone."""

import pytest
import torch

from llmbook.adaptation import add_lora
from llmbook.compression import quantise_model
from llmbook.inference import choice_log_probs, last_states
from llmbook.model import DecoderLM, TransformerConfig


@pytest.fixture(params=["gpt2", "llama", "modern"])
def model(request):
    torch.manual_seed(0)
    sizes = dict(vocab_size=31, d_model=32, n_layers=2, n_heads=4, max_seq_len=16, init_std=0.2)
    if request.param == "llama":
        return DecoderLM(TransformerConfig.llama(n_kv_heads=2, **sizes))
    return DecoderLM(getattr(TransformerConfig, request.param)(**sizes))


@pytest.mark.parametrize("prefix", [[], [3, 1, 4, 1, 5]])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_scores_are_those_of_each_text_alone(model, prefix, batch_size):
    """Catches padding that is seen, the wrong last token, rows in the wrong order, and positions that restart."""
    rows = [[9, 2, 6, 5], [3], [5, 8, 9], [7, 9, 3, 2, 3, 8]]
    scores = choice_log_probs(model, rows, [4, 20, 0], prefix=prefix, batch_size=batch_size)
    for row, score in zip(rows, scores, strict=True):
        alone = model(torch.tensor([prefix + row])).logits[0, -1].log_softmax(-1)[[4, 20, 0]]
        assert torch.allclose(score, alone, atol=1e-5)


def test_so_many_texts_are_read_at_once(model):
    """Catches a batch size that is accepted and ignored, where memory was to be saved."""
    read = []
    model.backbone.register_forward_hook(lambda backbone, inputs, out: read.append(len(inputs[0])))
    choice_log_probs(model, [[1], [2, 3], [4], [5, 6, 7], [8]], [0], batch_size=2)
    assert read == [2, 2, 1]


@pytest.mark.parametrize("prefix", [[], [3, 1, 4]])
def test_a_model_in_bfloat16_scores_as_each_text_alone(model, prefix):
    """Catches keys and values kept in another type than the model computes in."""
    model.bfloat16()
    (score,) = choice_log_probs(model, [[9, 2]], [4, 20, 0], prefix=prefix)
    alone = model(torch.tensor([[*prefix, 9, 2]])).logits[0, -1].float().log_softmax(-1)[[4, 20, 0]]
    torch.testing.assert_close(score, alone, atol=0.05, rtol=0)


def test_states_are_those_before_the_output_matrix(model):
    """Catches a state that the final norm has not seen."""
    rows = [[1, 2, 3], [4, 5]]
    states = last_states(model, rows, prefix=[6])
    alone = model(torch.tensor([[6, 4, 5]]), need_hidden=True).last_hidden_state[0, -1]
    assert torch.allclose(states[1], alone, atol=1e-5)


def test_reading_leaves_the_model_as_it_was(model):
    """Catches a training mode that is lost, and gradients that are kept."""
    model.train()
    assert not last_states(model, [[1, 2]]).requires_grad
    assert model.training


def test_what_cannot_be_read_is_named(model):
    """Catches an empty row scored by its padding, positions beyond the model's, or the last one refused, a choice
    counted from the end of the vocabulary, and an error about the maximum of nothing."""
    assert last_states(model, [[1] * 11], prefix=[2] * 5).shape == (1, 32)
    with pytest.raises(ValueError, match="row 1 is empty"):
        last_states(model, [[1], []])
    with pytest.raises(ValueError, match="17 tokens"):
        last_states(model, [[1] * 12], prefix=[2] * 5)
    with pytest.raises(ValueError, match="rows is empty"):
        last_states(model, [])
    for choice in (31, -1):
        with pytest.raises(ValueError, match=f"choices holds {choice}, outside the vocabulary 0…30"):
            choice_log_probs(model, [[1]], [4, choice])


@pytest.mark.parametrize("change", ["quantised", "adapted"])
def test_a_head_without_a_plain_weight_is_read_too(model, change):
    """AttributeError for a model whose output projection is quantised or has a LoRA."""
    rows, choices = [[1, 2, 3], [4, 5]], [7, 8]
    before = choice_log_probs(model, rows, choices)
    if change == "quantised":
        quantise_model(model, bits=8, skip=())
    else:
        add_lora(model, target_modules="lm_head")
    assert not hasattr(model.lm_head, "weight")
    torch.testing.assert_close(choice_log_probs(model, rows, choices), before, atol=0.2, rtol=0)
