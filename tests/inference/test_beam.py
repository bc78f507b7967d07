"""Beam search against transformers', against greedy, and against trying every text there is."""

import itertools

import pytest
import torch

from llmbook.inference import ConditionedDecoder, beam_search, generate
from tests.inference.helpers import VOCAB_SIZE, Bigrams, gpt2_pair, make_encoder_decoder, make_model, padded, prompts

MANY_ENDS = [2, 5, 7, 11, 13, 17]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0, -0.5])
@pytest.mark.parametrize(("num_beams", "eos"), [(3, None), (4, MANY_ENDS), (3, [*range(20)])])
def test_beams_equal_transformers(seed, alpha, num_beams, eos):
    """Catches finished beams not divided by their length (or by another one), too few candidates left when beams
    end, a cache that keeps the old order of the rows, another rule for when to stop, padding that is read."""
    ours, theirs = gpt2_pair(seed)
    _, ids, mask = padded((3, 6, 4))
    options = dict(num_beams=num_beams, max_new_tokens=9, length_penalty=alpha)
    expected = theirs.generate(
        ids, attention_mask=mask, do_sample=False, return_dict_in_generate=True, output_scores=True,
        eos_token_id=eos, pad_token_id=None if eos is None else eos[0], num_return_sequences=num_beams, **options,
    )  # fmt: skip
    found = beam_search(ours, ids, attention_mask=mask, eos_token_id=eos, n=num_beams, **options)
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.scores, expected.sequences_scores, atol=1e-4, rtol=1e-4)


def test_the_comparison_is_not_of_one_kind():
    """Catches a comparison with transformers that proves nothing: texts must end early, late and at all lengths."""
    _, ids, mask = padded((3, 6, 4))
    lengths = set()
    for seed in range(3):
        texts = beam_search(
            gpt2_pair(seed)[0], ids, attention_mask=mask, num_beams=4, max_new_tokens=9, eos_token_id=MANY_ENDS,
            n=4,
        ).sequences[:, 6:]  # fmt: skip
        lengths |= set((torch.isin(texts, torch.tensor(MANY_ENDS)).long().cumsum(1) == 0).sum(1).tolist())
    assert len(lengths) >= 6


def test_one_beam_is_greedy():
    """Catches a first step that does not take the best token, or an end token that does not end a beam."""
    model, ids = make_model(), prompts(4)
    free = generate(model, ids, max_new_tokens=10, temperature=0)
    assert torch.equal(beam_search(model, ids, num_beams=1, max_new_tokens=10).sequences, free)
    eos = int(free[0, 8])
    expected = generate(model, ids, max_new_tokens=10, temperature=0, eos_token_id=eos)
    assert torch.equal(beam_search(model, ids, num_beams=1, max_new_tokens=10, eos_token_id=eos).sequences, expected)


def every_text(vocab_size: int, length: int, eos: int):
    """All texts of up to ``length`` tokens that end with ``eos`` or by their length."""
    for n in range(1, length + 1):
        for text in itertools.product(range(vocab_size), repeat=n):
            if eos not in text[:-1] and (n == length or text[-1] == eos):
                yield text


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_enough_beams_find_the_best_of_all_texts(alpha):
    """Catches a sum over the wrong tokens and texts that are lost: 4 tokens, 3 steps, every text scored by hand."""
    model, prompt, length, eos = make_model(vocab_size=4, seed=3), torch.tensor([[1, 2]]), 3, 3
    scores = {}
    with torch.no_grad():
        for text in every_text(4, length, eos):
            log_p = model(torch.cat([prompt, torch.tensor([text])], dim=1)).logits.log_softmax(-1)[0, 1:-1]
            scores[text] = float(log_p[range(len(text)), list(text)].sum()) / len(text) ** alpha
    best = sorted(scores, key=scores.get, reverse=True)
    n_best = len(best) if alpha == 0 else 1  # with α > 0 the search may stop before a worse text would win
    found = beam_search(
        model, prompt, num_beams=len(best), max_new_tokens=length, length_penalty=alpha, eos_token_id=eos,
        n=n_best,
    )  # fmt: skip
    expected = torch.tensor([[*text, *[eos] * (length - len(text))] for text in best])[:n_best]
    assert torch.equal(found.sequences[:, 2:], expected[:, : found.sequences.shape[1] - 2])
    torch.testing.assert_close(found.scores, torch.tensor([scores[t] for t in best[:n_best]]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("max_seq_len", [24, 8])
def test_cache_and_batch_change_nothing(max_seq_len):
    """Catches rows of one prompt continued from another's cache, with and without a moving window."""
    model = make_model(max_seq_len=max_seq_len)
    rows, ids, mask = padded()
    options = dict(num_beams=3, max_new_tokens=9, n=2, eos_token_id=4)
    together, uncached = (beam_search(model, ids, attention_mask=mask, use_cache=u, **options) for u in (True, False))
    assert torch.equal(together.sequences, uncached.sequences)
    for i, row in enumerate(rows):
        alone = beam_search(model, row, **options)
        width = alone.sequences.shape[1] - row.shape[1]
        assert torch.equal(together.sequences[2 * i : 2 * i + 2, 6 : 6 + width], alone.sequences[:, row.shape[1] :])
        torch.testing.assert_close(together.scores[2 * i : 2 * i + 2], alone.scores, atol=1e-4, rtol=1e-4)


def test_beams_of_an_encoder_decoder_read_their_own_source():
    """Catches a source not repeated for its beams, or its keys left behind when the beams are reordered."""
    model, source, start = make_encoder_decoder(), prompts(3, 6), torch.zeros(3, 1, dtype=torch.long)
    options = dict(num_beams=3, max_new_tokens=8, n=3, eos_token_id=4)
    together = beam_search(ConditionedDecoder(model, source), start, **options)
    assert len(together.sequences.unique(dim=0)) == 9
    for i in range(3):
        alone = beam_search(ConditionedDecoder(model, source[i : i + 1]), start[:1], use_cache=False, **options)
        width = alone.sequences.shape[1]
        assert torch.equal(together.sequences[3 * i : 3 * i + 3, :width], alone.sequences)


def test_beams_remain_when_the_best_continuations_end():
    """Catches too few candidates: of the six likeliest tokens after 8, for three beams, five end the text; the third
    best text begins with the seventh."""
    logits = torch.zeros(9, 9)  # after most tokens, all are alike
    logits[8] = torch.tensor([5.0, 4.9, 4.8, 4.7, 4.6, 4.5, 4.4, 0.0, 0.0])
    logits[6, 0] = 20.0
    found = beam_search(
        Bigrams(logits), torch.tensor([[8]]), num_beams=3, max_new_tokens=4, length_penalty=0.0,
        eos_token_id=[0, 1, 3, 4, 5], n=3,
    )  # fmt: skip
    assert found.sequences.tolist() == [[8, 0, 0], [8, 1, 0], [8, 6, 0]]


def test_the_search_ends_when_nothing_better_can_come():
    """Catches a search that goes on to the last token although every row is closed: no text would show it."""
    model, passes = make_model(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    beam_search(model, prompts(2), num_beams=2, max_new_tokens=12, eos_token_id=[*range(20)])
    assert len(passes) < 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_beams=0), "num_beams=0"),
        (dict(n=0), "n=0"),
        (dict(n=4), "n=4: num_beams=3"),
        (dict(max_new_tokens=0), "max_new_tokens=0"),
        (dict(max_new_tokens=-1), "max_new_tokens=-1"),
        (dict(length_penalty=float("nan")), "length_penalty=nan"),
        (dict(eos_token_id=[1, VOCAB_SIZE]), f"eos_token_id={VOCAB_SIZE}"),
        (dict(num_beams=40, n=30, max_new_tokens=1), "n=30: there are not"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(options, message):
    """Catches an empty result, a text of probability 0 or an error from inside torch in place of a clear word."""
    with pytest.raises(ValueError, match=message):
        beam_search(make_model(), prompts(), **{**dict(num_beams=3, max_new_tokens=4), **options})
