"""The search for the likeliest text, against trying every text there is."""

import math

import pytest
import torch

from llmbook.inference import ConditionedDecoder, beam_search, likeliest_text
from tests.inference.helpers import make_encoder_decoder, make_model, prompts
from tests.inference.test_beam import every_text

EOS, LENGTH = 3, 4


def every_score(model, prompt):
    """log p of every finished text of up to ``LENGTH`` tokens, by one pass over each."""
    texts = [text for text in every_text(4, LENGTH, EOS) if text[-1] == EOS]
    scores = {}
    with torch.no_grad():
        for text in texts:
            log_p = model(torch.cat([prompt, torch.tensor([text])], dim=1)).logits.log_softmax(-1)
            scores[text] = float(log_p[0, prompt.shape[1] - 1 : -1][range(len(text)), list(text)].sum())
    return scores


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_mode_is_the_best_of_all_texts(seed, batch_size):
    """Catches a wrong sum, a branch that is pruned too early, a text that is too long, a row read at the wrong
    place when beginnings of unequal length share a batch."""
    model, prompt = make_model(vocab_size=4, seed=seed), torch.tensor([[1, 2]])
    scores = every_score(model, prompt)
    best = max(scores, key=scores.get)
    found = likeliest_text(model, prompt, eos_token_id=EOS, max_new_tokens=LENGTH, batch_size=batch_size)
    assert found.exact
    assert tuple(found.tokens) == best
    assert found.log_p == pytest.approx(scores[best], abs=1e-4)


def test_the_comparison_is_not_of_one_kind():
    """Catches a comparison that proves nothing: the modes above must include the empty text and longer ones."""
    prompt = torch.tensor([[1, 2]])
    lengths = set()
    for seed in range(8):
        scores = every_score(make_model(vocab_size=4, seed=seed), prompt)
        lengths.add(len(max(scores, key=scores.get)))
    assert 1 in lengths
    assert len(lengths) >= 2


def test_a_known_text_prunes_and_changes_nothing():
    """Catches a bound that cuts the text that gave it, and one that is not used."""
    model, prompt = make_model(vocab_size=8, seed=1, std=0.3), torch.tensor([[1, 2]])
    options = dict(eos_token_id=EOS, max_new_tokens=LENGTH, batch_size=1)
    free = likeliest_text(model, prompt, **options)
    bound = likeliest_text(model, prompt, at_least=free.log_p, **options)
    assert bound.tokens == free.tokens
    assert bound.n_reads <= free.n_reads
    with pytest.raises(ValueError, match="at_least"):
        likeliest_text(model, prompt, at_least=free.log_p + 0.1, **options)


def test_no_beam_beats_the_mode():
    """Catches a search that does not read the source, or another row's: beams may reach the mode, never pass it."""
    model = ConditionedDecoder(make_encoder_decoder(), prompts(1))
    start, options = torch.tensor([[1]]), dict(eos_token_id=EOS, max_new_tokens=2)
    mode = likeliest_text(model, start, **options)
    beams = beam_search(model, start, num_beams=29 * 29, n=29 * 28, length_penalty=0.0, **options)
    ended = [
        (float(score), row.tolist())
        for score, row in zip(beams.scores, beams.sequences[:, 1:], strict=True)
        if EOS in row.tolist()
    ]
    score, row = max(ended)
    assert row[: row.index(EOS) + 1] == mode.tokens
    assert mode.log_p == pytest.approx(score, abs=1e-4)


def test_an_ended_search_says_so():
    """Catches a search that calls its best text the mode although it gave up."""
    model, prompt = make_model(vocab_size=29, seed=1, std=0.2), torch.tensor([[1, 2]])
    found = likeliest_text(model, prompt, eos_token_id=EOS, max_new_tokens=4, max_reads=1)
    assert not found.exact
    assert found.n_reads == 1
    assert math.isfinite(found.log_p)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_reads": 0}, "max_reads=0"),
        ({"eos_token_id": 99}, "eos_token_id=99"),
        ({"max_new_tokens": 40}, "max_seq_len"),
    ],
)
def test_what_is_out_of_range_is_named(options, named):
    """Catches a search that runs on with a size that means nothing."""
    with pytest.raises(ValueError, match=named):
        likeliest_text(make_model(), prompts(1), **{"eos_token_id": EOS, "max_new_tokens": 3, **options})


def test_one_prompt_at_a_time():
    """Catches a batch of prompts of which all but the first would be lost."""
    with pytest.raises(ValueError, match="2 rows"):
        likeliest_text(make_model(), prompts(2), eos_token_id=EOS, max_new_tokens=3)
