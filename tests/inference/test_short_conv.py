"""Writing with a model whose short convolutions look back: its memory is cropped, exchanged and padded like keys."""

import torch

from llmbook.inference import ModelDraft, beam_search, generate, speculative_generate
from tests.inference.helpers import make_model, padded, prompts


def model(**options):
    made = make_model(conv_width=4, **options)
    for name, weight in made.named_parameters():
        if "conv" in name:  # they begin at 0, and would say nothing
            torch.nn.init.normal_(weight.data, std=0.4, generator=torch.Generator().manual_seed(3))
    return made


def test_cache_and_padding_change_nothing():
    """Catches a past that is lost between two tokens, and padding that is looked back on."""
    writer, (rows, ids, mask) = model(), padded((2, 6))
    options = dict(max_new_tokens=7, temperature=0)
    together = generate(writer, ids, attention_mask=mask, **options)
    assert torch.equal(together, generate(writer, ids, attention_mask=mask, use_cache=False, **options))
    for i, row in enumerate(rows):
        assert torch.equal(together[i, 6:], generate(writer, row, **options)[0, row.shape[1] :])


def test_rejected_guesses_leave_nothing_behind():
    """Catches a crop that goes back in keys alone: guesses of another model, most of them refused."""
    writer, ids = model(max_seq_len=64), prompts(1, 6)
    expected = generate(writer, ids, max_new_tokens=16, temperature=0)
    draft = ModelDraft(make_model(seed=0, std=0.45, max_seq_len=64), temperature=0.7)
    found = speculative_generate(writer, ids, draft=draft, k=3, max_new_tokens=16, temperature=0)
    assert torch.equal(found.sequences, expected)


def test_beams_take_their_past_along():
    """Catches beams whose keys change rows while what the convolutions read stays."""
    writer, options = model(), dict(num_beams=4, max_new_tokens=9, num_return_sequences=3)
    cached, anew = (beam_search(writer, prompts(2, 5), use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached.sequences, anew.sequences)
    torch.testing.assert_close(cached.scores, anew.scores, atol=1e-4, rtol=1e-4)
