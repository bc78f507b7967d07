"""A learned beginning made of real words, as vectors or as keys and values, must act as those words."""

import pytest
import torch

from llmbook.adaptation import PrefixTuned, PromptTuned
from llmbook.model import KVCache
from tests.adaptation.helpers import LLAMA, behind_words, left_padded, lm, logits
from tests.model.helpers import POSITIONS, random_ids

WORDS = [5, 9, 2]
BOTH = pytest.mark.parametrize("tuned", [PromptTuned, PrefixTuned])


def make(tuned, **overrides):
    return tuned(lm(**overrides), n_tokens=3, init_ids=WORDS)


@BOTH
@pytest.mark.parametrize("kind", [*({"positions": p} for p in POSITIONS), LLAMA], ids=[*POSITIONS, "grouped"])
def test_it_acts_as_the_words(tuned, kind):
    """Catches a beginning shifted by one, behind the text or in the logits; keys exchanged with values; positions
    that do not count it."""
    model, ids = make(tuned, **kind), random_ids(2, 7)
    torch.testing.assert_close(logits(model, ids), behind_words(model, ids, WORDS), atol=1e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("positions", POSITIONS)
def test_left_padding_changes_nothing(tuned, positions):
    """Catches padding between beginning and text that is read, counted, or widens the distance between them."""
    model, ids = make(tuned, positions=positions), random_ids(2, 7)
    padded, mask = left_padded(ids, 4)
    found = logits(model, padded, attention_mask=mask)[1:, 4:]
    torch.testing.assert_close(found, behind_words(model, ids, WORDS), atol=1e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("padded", [False, True])
def test_the_cache_changes_nothing(tuned, positions, padded):
    """Catches a beginning that is read again at every step, or lost after the first."""
    model, (ids, mask) = make(tuned, positions=positions), left_padded(random_ids(2, 7), 4)
    mask = mask if padded else torch.ones_like(mask)
    whole = logits(model, ids, attention_mask=mask)
    cache, parts = KVCache(model.config, batch_size=3), []
    for start, end in ((0, 6), (6, 7), (7, 11)):
        parts.append(logits(model, ids[:, start:end], attention_mask=mask[:, :end], cache=cache))
    assert cache.length == 11
    real = mask.bool()
    torch.testing.assert_close(torch.cat(parts, dim=1)[real], whole[real], atol=1e-5, rtol=0)
