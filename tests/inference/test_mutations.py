"""Classic mistakes of decoding, made on purpose: for each, a named test of this folder must notice.

As in ``tests/model/test_mutations.py``, each case patches one mistake into the library, runs the test that is meant
to catch it, and demands that the test fails.
"""

import sys
from collections.abc import Callable

import pytest
import torch

from llmbook.inference import beam, grammar, guidance, log_probs, processors, sampling, stopping, text_stream
from llmbook.inference import speculative as speculation
from llmbook.model import KVCache
from llmbook.text.tokenizers import hf
from tests.inference import (
    test_beam,
    test_generate,
    test_grammar,
    test_options,
    test_sampling,
    test_speculative,
    test_streaming,
)
from tests.inference.helpers import make_model, prompts
from tests.mutations import must_be_noticed

generate_module = sys.modules["llmbook.inference.generate"]  # the package has a function of this name
real = dict(
    add=beam.Finished.add, seen=sampling.tokens_seen, verify=speculation.verify, count=processors.count_tokens,
    bias=processors.add_bias, guide=processors.guide, scores=log_probs.prompt_log_probs,
)  # fmt: skip


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
    "presence of the token beside": (
        sampling, "count_tokens", lambda ids, *, vocab_size: real["count"](ids, vocab_size=vocab_size).roll(1, -1),
        lambda: test_options.test_penalties_work_on_every_road(*model_and_prompt(), "presence_penalty"),
    ),
    "bias with the wrong sign": (
        sampling, "add_bias", lambda logits, bias: real["bias"](logits, [(token, -value) for token, value in bias]),
        test_options.test_bias_and_beams_equal_transformers,
    ),
    "guidance towards the negative prompt": (
        guidance, "guide", lambda logits, negative, scale: real["guide"](negative, logits, scale),
        lambda: test_options.test_guidance_equals_transformers(1.7),
    ),
    "log-probabilities of the token before": (
        generate_module, "prompt_log_probs", lambda logits, ids, k: real["scores"](logits.roll(1, 0), ids, k),
        lambda: test_options.test_log_probabilities_are_those_of_a_fresh_pass(model_and_prompt()[0], 2, True),
    ),
    "every row draws with the same seed": (
        sampling.Sampling, "seed_of", lambda wanted, i: wanted.seed,
        lambda: test_options.test_a_text_does_not_depend_on_the_texts_beside_it(model_and_prompt()[0]),
    ),
    "an end allowed in the middle of a grammar": (
        grammar.Matcher, "complete", True,
        lambda: test_grammar.test_exactly_the_tokens_that_can_go_on(r"a[bc]*d?"),
    ),
    "the mark of a space taken for text": (
        hf, "SPACE", "\0", lambda: test_grammar.test_token_bytes_make_the_text("byte-fallback"),
    ),
    "a grammar left behind when beams change places": (
        grammar.Matcher, "fork", lambda matcher: matcher, test_grammar.test_a_state_can_be_taken_back_and_copied,
    ),
    "stop strings not watched": (
        text_stream.StopStrings, "push", lambda watcher, text: text,
        lambda: test_options.test_stop_strings_on_every_road(make_model(vocab_size=256, max_seq_len=96)),
    ),
}  # fmt: skip


def model_and_prompt():
    return make_model(max_seq_len=64), prompts(1, 5)


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    """A test that would pass whatever the library computes."""
    must_be_noticed(*MUTATIONS[name], monkeypatch)
