"""Spans: what is cut out can be put back, in the shares of T5, and every place can be cut."""

from collections import Counter

import numpy as np
import pytest
import torch

from llmbook.text import CorruptSpans, LMBatches, MappedBatches, cut_spans, draw_spans, restore_spans

SENTINELS = range(100, 120)
WORDS = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week"]


def test_the_example_of_the_paper():
    """Catches a sentinel behind its span, a span that loses its last token, and a missing last sentinel."""
    text, output = cut_spans(WORDS, [(2, 4), (8, 9)], ["<X>", "<Y>", "<Z>"])
    assert " ".join(text) == "Thank you <X> me to your party <Y> week"
    assert " ".join(output) == "<X> for inviting <Y> last <Z>"
    assert restore_spans(text, output, ["<X>", "<Y>", "<Z>"]) == WORDS


@pytest.mark.parametrize("n_tokens", [2, 3, 7, 20, 64])
@pytest.mark.parametrize(("probability", "mean_span"), [(0.15, 3.0), (0.5, 1.0), (0.9, 2.0)])
def test_input_and_output_together_are_the_text(n_tokens, probability, mean_span):
    """Catches a token lost or doubled at the edge of a span, at an end of the text, or between rows of a batch."""
    sentinels = range(100, 200)
    change = CorruptSpans(sentinel_ids=sentinels, start_id=99, probability=probability, mean_span=mean_span)
    ids = torch.randint(50, (6, n_tokens))
    batch = change({"input_ids": ids}, np.random.default_rng(0))
    for original, text, output in zip(ids, batch["input_ids"], batch["decoder_input_ids"], strict=True):
        assert output[0] == 99
        assert restore_spans(text.tolist(), output[1:].tolist(), sentinels) == original.tolist()
        in_text = [token for token in text.tolist() if token >= 100]
        assert in_text == list(sentinels[: len(in_text)])  # in order, none twice, and no two side by side
        assert not ((text[1:] >= 100) & (text[:-1] >= 100)).any()
        assert [token for token in output[1:].tolist() if token >= 100] == list(sentinels[: len(in_text) + 1])


def test_sizes_are_those_of_t5():
    """Catches a share taken of the wrong total: 15 % of 512 tokens in spans of 3 are 77 tokens in 26 spans."""
    change = CorruptSpans(sentinel_ids=range(1000, 1100), start_id=0)
    assert change.sizes(512) == (77, 26)
    batch = change({"input_ids": torch.zeros(2, 512, dtype=torch.long)}, np.random.default_rng(0))
    assert batch["input_ids"].shape == (2, 512 - 77 + 26)
    assert batch["decoder_input_ids"].shape == (2, 1 + 77 + 26 + 1)


def test_every_choice_of_spans_is_equally_likely():
    """Catches ends of the text that are never cut, and lengths that favour the first span.

    Two spans of three tokens together among six: 2 ways to divide three, 6 ways to place two among the 4 gaps of the
    three tokens kept. 3600 draws give each of the 12 about 300 times, with a standard deviation of 16.6.
    """
    generator = np.random.default_rng(0)
    counts = Counter(tuple(draw_spans(6, n_cut=3, n_spans=2, generator=generator)) for _ in range(3600))
    assert len(counts) == 12
    assert all(abs(n - 300) < 5 * 16.6 for n in counts.values())
    for spans in counts:
        assert sum(end - start for start, end in spans) == 3
        assert spans[0][1] < spans[1][0]


def test_corruption_resumes_exactly():
    """Catches spans that depend on what was drawn before."""

    def stream():
        batches = LMBatches(range(90), batch_size=3, seq_len=19)
        return MappedBatches(batches, CorruptSpans(sentinel_ids=SENTINELS, start_id=99))

    uninterrupted, interrupted, resumed = stream(), stream(), stream()
    whole = [next(uninterrupted) for _ in range(4)]
    next(interrupted), next(interrupted)
    resumed.load_state_dict(interrupted.state_dict())
    for batch in whole[2:]:
        again = next(resumed)
        assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(whole[0]["input_ids"], whole[1]["input_ids"])


def test_what_else_a_batch_holds_is_handed_on():
    """Catches the name of a task lost on the way, and with it the batch's objective."""
    change = CorruptSpans(sentinel_ids=SENTINELS, start_id=99)
    batch = {"input_ids": torch.arange(20)[None], "task": "spans"}
    assert change(batch, np.random.default_rng(0))["task"] == "spans"


def test_what_cannot_be_cut_is_named():
    """Catches sentinels used twice, and padding cut out as text."""
    change = CorruptSpans(sentinel_ids=SENTINELS, start_id=99)
    ids = torch.zeros(1, 512, dtype=torch.long)
    with pytest.raises(ValueError, match=r"512 tokens need 27 sentinels.*there are 20"):
        change({"input_ids": ids}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="rows of one length"):
        change({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="a text of 1 token"):
        change({"input_ids": ids[:, :1]}, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"n_spans=3 of n_cut=2 tokens cannot lie apart among n_tokens=9: .* 1 to 2"):
        draw_spans(9, n_cut=2, n_spans=3, generator=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"2 spans need 3 sentinels.*there are 2"):
        cut_spans(WORDS, [(2, 4), (8, 9)], ["<X>", "<Y>"])
    with pytest.raises(ValueError, match="probability=1"):
        CorruptSpans(sentinel_ids=SENTINELS, start_id=99, probability=1)
    with pytest.raises(ValueError, match="mean_span=0"):
        CorruptSpans(sentinel_ids=SENTINELS, start_id=99, mean_span=0.5)
