"""Writing with a model whose short convolutions look back: its memory is cropped, exchanged and padded like keys."""

from dataclasses import replace

import pytest
import torch

from llmbook.inference import Engine, ModelDraft, Request, Sampling, beam_search, generate, speculative_generate
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
    writer, options = model(), dict(num_beams=4, max_new_tokens=9, n=3)
    cached, anew = (beam_search(writer, prompts(2, 5), use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached.sequences, anew.sequences)
    torch.testing.assert_close(cached.scores, anew.scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n_pages", [40, 9])
def test_company_changes_nothing(n_pages):
    """Catches a past lost, or taken from a neighbour, when texts join, leave, or give way and are read again."""
    writer, generator = model(max_seq_len=40, n_kv_heads=2), torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 13, (7,), generator=generator).tolist()
    engine = Engine(writer, n_pages=n_pages, page_size=4, max_batch=4)
    completions = []
    for i, length in enumerate(lengths):
        sampling = Sampling(temperature=0) if i % 2 else Sampling(temperature=1.3, top_p=0.9)
        sampling = replace(sampling, max_new_tokens=5 + 3 * i, seed=i)
        completions += engine.submit(Request(prompt_ids=prompts(1, length, seed=i)[0].tolist(), sampling=sampling))
        engine.step()  # each comes while the others are being written
    engine.run()
    assert any(completion.n_preempted for completion in completions) == (n_pages == 9)
    for completion in completions:
        alone = generate(writer, torch.tensor([completion.prompt_ids]), completion.sampling)
        assert completion.ids == alone[0].tolist()
