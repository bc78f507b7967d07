"""Ways of decoding that copy, reorder and cut the cache, behind a prompt and a prefix they know nothing of."""

import pytest
import torch

from llmbook.adaptation import PrefixTuned, PromptTuned
from llmbook.inference import PromptLookup, beam_search, generate, speculative_generate
from tests.adaptation.helpers import LLAMA, lm
from tests.model.helpers import random_ids

WORDS = [5, 9, 2]


@pytest.mark.parametrize("kind", [PromptTuned, PrefixTuned])
def test_beams_go_on_as_behind_the_words(kind):
    """Catches a prefix that is reordered with the beams, or lost when their number grows."""
    model, ids = kind(lm(**LLAMA), n_tokens=3, init_ids=WORDS), random_ids(2, 4)
    with_words = torch.cat([torch.tensor(WORDS).expand(2, -1), ids], dim=1)
    expected = beam_search(model.model, with_words, num_beams=3, max_new_tokens=5)
    found = beam_search(model, ids, num_beams=3, max_new_tokens=5)
    assert torch.equal(found.sequences, expected.sequences[:, 3:])
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [PromptTuned, PrefixTuned])
def test_rejected_guesses_leave_no_trace(kind):
    """Catches a prefix that is cut off with the guesses that were wrong."""
    model, ids = kind(lm(**LLAMA), n_tokens=3, init_ids=WORDS), torch.tensor([[4, 7, 4, 11, 4]])
    expected = generate(model, ids, max_new_tokens=8, temperature=0)
    found = speculative_generate(model, ids, draft=PromptLookup(31, max_ngram=1), max_new_tokens=8, k=3, temperature=0)
    assert torch.equal(found.sequences, expected)
    assert found.n_accepted < found.n_proposed  # there were wrong guesses to be cut off
