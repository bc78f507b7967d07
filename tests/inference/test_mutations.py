"""Classic mistakes of decoding, made on purpose: for each, a named test of this folder must notice.

As in ``tests/model/test_mutations.py``, each case patches one mistake into the library, runs the test that is meant
to catch it, and demands that the test fails.
"""

from collections.abc import Callable

import pytest
import torch

from llmbook.inference import beam, sampling, stopping, text_stream
from llmbook.inference import speculative as speculation
from llmbook.model import KVCache
from tests.inference import test_beam, test_generate, test_sampling, test_speculative, test_streaming
from tests.mutations import must_be_noticed

real = dict(add=beam.Finished.add, seen=sampling.tokens_seen, verify=speculation.verify)


def bonus_from_the_last_guess(guesses, q, p, generator=None):
    return real["verify"](guesses, q, torch.cat([p[:-1], p[-2:-1]]), generator)


def rows_stay(cache, rows):
    times = len(rows) // len(cache.keys[0])
    cache.keys = [keys.repeat_interleave(times, 0) for keys in cache.keys]
    cache.values = [values.repeat_interleave(times, 0) for values in cache.values]


def not_divided(found, scores, texts):
    real["add"](found, scores * texts.shape[2] ** 2.0, texts)  # undoes α = 2


def top_p_first(dials, scores):
    logits = sampling.keep_top_p(scores, dials.top_p)
    logits = sampling.apply_temperature(logits, dials.temperature)
    return sampling.keep_min_p(sampling.keep_top_k(logits, dials.top_k), dials.min_p).softmax(-1)


MUTATIONS: dict[str, tuple[object, str, object, Callable[[], None]]] = {
    "(p − q)₊ not renormalised": (
        test_speculative, "residual", lambda p, q: (p - q).clamp(min=0),
        lambda: test_speculative.test_the_rule_emits_each_token_as_often_as_the_model(0),
    ),
    "the token after all guesses drawn from the last guess's distribution": (
        test_speculative, "verify", bonus_from_the_last_guess,
        test_speculative.test_equal_distributions_are_always_accepted,
    ),
    "cache not cropped after a rejection": (
        KVCache, "crop", lambda cache, length: None,
        test_speculative.test_a_rewritten_text_is_read_from_where_it_differs,
    ),
    "finished beams not divided by their length": (
        beam.Finished, "add", not_divided,
        lambda: test_beam.test_beams_equal_transformers(0, 2.0, 4, test_beam.MANY_ENDS),
    ),
    "cache not reordered": (
        KVCache, "reorder", rows_stay,
        lambda: test_beam.test_beams_equal_transformers(0, 0.7, 3, None),
    ),
    "rows never closed": (
        beam.Finished, "close", lambda found, best_possible: None,
        lambda: test_beam.test_beams_equal_transformers(1, 2.0, 4, test_beam.MANY_ENDS),
    ),
    "the penalty divides negative logits": (
        test_sampling, "penalise_repetition", lambda logits, seen, penalty: torch.where(seen, logits / penalty, logits),
        test_sampling.test_the_penalty_lowers_negative_logits_too,
    ),
    "top-p before temperature": (
        sampling.Sampling, "probabilities", top_p_first,
        lambda: test_sampling.test_all_dials_together_equal_transformers(
            torch.randn(16, 50, generator=torch.Generator().manual_seed(3)) * 3
        ),
    ),
    "padding counts as repeated": (
        sampling, "tokens_seen", lambda ids, mask, *, vocab_size: real["seen"](ids, vocab_size=vocab_size),
        lambda: test_generate.test_every_dial_in_a_padded_batch(dict(temperature=0, repetition_penalty=1.7)),
    ),
    "half a character given out": (
        text_stream, "LONGEST", 0, lambda: test_streaming.test_pieces_make_the_whole_text("byte"),
    ),
    "the beginning of a stop string given out": (
        stopping.StopStrings, "_open_beginning", lambda watcher: 0,
        lambda: test_streaming.test_text_ends_before_the_stop_string("byte", "🦁 f", test_streaming.BEFORE_LION),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    """A test that would pass whatever the library computes."""
    must_be_noticed(*MUTATIONS[name], monkeypatch)
