"""Prompt tuning: a prompt made of a text's own vectors must act as that text."""

import pickle

import pytest
import torch

from llmbook.adaptation import PromptTuned
from llmbook.inference import Engine, Request, Sampling, generate
from llmbook.model import KVCache
from llmbook.training import causal_lm_loss
from tests.adaptation.helpers import LLAMA, backward, behind_words, lm, logits, with_gradient
from tests.model.helpers import random_ids

PROMPT = [5, 9, 2]


def prompted(**overrides) -> PromptTuned:
    return PromptTuned(lm(**overrides), n_tokens=3, init_ids=PROMPT)


@pytest.mark.parametrize("kind", [{"max_seq_len": 12}, {**LLAMA, "max_seq_len": 12}], ids=["gpt2", "llama"])
def test_generating_behind_a_prompt_is_generating_behind_its_words(kind):
    """Catches a generation loop that sees the prompt's positions, or runs past the context it leaves."""
    model = prompted(**kind)
    ids = random_ids(2, 4)
    words = torch.tensor(PROMPT).expand(2, -1)
    expected = generate(model.model, torch.cat([words, ids], dim=1), max_new_tokens=5, temperature=0)
    for use_cache in (True, False):
        assert torch.equal(generate(model, ids, max_new_tokens=5, temperature=0, use_cache=use_cache), expected[:, 3:])
    assert generate(model, ids, max_new_tokens=8, temperature=0).shape == (2, 12)  # the window moves on


def test_a_changed_weight_is_heard():
    """Catches keys and values of a prompt that has learned since, or of a model that has."""
    model, ids = prompted(), random_ids(1, 6)
    logits(model, ids, cache=KVCache(model.config))
    key_weight = model.model.backbone.blocks[0].attention.k_proj.weight

    def another():
        model.prompt = torch.nn.Parameter(torch.randn_like(model.prompt))

    for change in (model.prompt.normal_, key_weight.normal_, another, another):
        with torch.no_grad():
            change()
        with_cache = logits(model, ids, cache=KVCache(model.config))
        torch.testing.assert_close(with_cache, logits(model, ids), atol=1e-4, rtol=1e-4)


def test_the_prompt_is_read_once_however_the_text_is_cached():
    """Catches a prompt read again for every token, by an engine that makes a new view of its pages for each step."""
    model, passes = prompted(), []
    model.model.backbone.embeddings.register_forward_hook(lambda *_: passes.append(1))
    engine = Engine(model, n_pages=8, page_size=8)
    (completion,) = engine.submit(Request(prompt_ids=[1, 2], sampling=Sampling(max_new_tokens=6, temperature=0)))
    engine.run()
    assert len(passes) == 1 + 6
    expected = generate(model, torch.tensor([[1, 2]]), max_new_tokens=6, temperature=0)[0, 2:]
    assert completion.tokens == expected.tolist()


def test_it_travels_by_pickle():
    """Catches something kept for speed that cannot be copied, and a copy that answers with the old prompt."""
    model, ids = prompted(), random_ids(1, 6)
    before = logits(model, ids, cache=KVCache(model.config))
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(logits(again, ids, cache=KVCache(model.config)), before)


def test_objectives_work_unchanged_and_only_the_prompt_learns():
    """Catches a model that trains along, and targets that moved."""
    model, ids = prompted(), random_ids(2, 7)
    loss = causal_lm_loss(model, {"input_ids": ids})
    log_p = behind_words(model, ids, PROMPT)[:, :-1].log_softmax(-1)
    torch.testing.assert_close(loss.total, -log_p.gather(-1, ids[:, 1:, None]).sum())
    backward(model, ids)
    assert with_gradient(model) == {"prompt"} == {n for n, p in model.named_parameters() if p.requires_grad}
    assert model.num_parameters() == model.model.num_parameters() + 3 * 16
    assert model.prompt.grad.abs().sum(1).gt(0).all()


def test_what_else_is_asked_for_covers_the_tokens_alone():
    """Catches hidden states and weights that still count the prompt among the readers, or drop the wrong ones."""
    model, ids = prompted(), random_ids(2, 7)
    words = torch.tensor(PROMPT).expand(2, -1)
    with torch.no_grad():
        out = model(ids, need_weights=True, need_hidden=True)
        plain = model.model(torch.cat([words, ids], dim=1), need_weights=True, need_hidden=True)
    assert [a.shape for a in out.attentions] == [(2, 4, 7, 10)] * 2
    for found, expected in zip(out.attentions, plain.attentions, strict=True):
        torch.testing.assert_close(found, expected[:, :, 3:], atol=1e-5, rtol=0)
    for found, expected in zip(out.hidden_states, plain.hidden_states, strict=True):
        torch.testing.assert_close(found, expected[:, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.last_hidden_state, plain.last_hidden_state[:, 3:], atol=1e-5, rtol=0)


def test_words_to_start_from_are_repeated():
    """Catches a prompt that starts from noise where words were given, and one tied to the token table."""
    model = PromptTuned(lm(), n_tokens=5, init_ids=[4, 7])
    table = model.model.backbone.embeddings.tokens.weight
    assert torch.equal(model.prompt, table[[4, 7, 4, 7, 4]])
    with torch.no_grad():
        model.prompt.zero_()
    assert table[4].abs().sum() > 0
    anything = PromptTuned(lm(), n_tokens=5).prompt
    assert all((table == row).all(1).any() for row in anything)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tokens": 0}, "n_tokens=0"),
        ({"n_tokens": 32}, "between 1 and max_seq_len - 1 = 31"),
        ({"n_tokens": 2, "init_ids": [1, 2, 3]}, r"init_ids=\[1, 2, 3\]"),
        ({"n_tokens": 2, "init_ids": [31]}, "vocabulary 0…30"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    """Catches a prompt that leaves no room for text, or words of another vocabulary."""
    model = lm()
    with pytest.raises(ValueError, match=message):
        PromptTuned(model, **arguments)
    assert all(p.requires_grad for p in model.parameters())


def test_what_would_lose_the_prompt_is_refused():
    """Catches a prompt that falls out of sight after a window's length, or is read without its place, silently."""
    with pytest.raises(ValueError, match="sliding_window=4"):
        PromptTuned(lm(sliding_window=4), n_tokens=2)
    with pytest.raises(ValueError, match="conv_width=4"):
        PromptTuned(lm(conv_width=4), n_tokens=2)
