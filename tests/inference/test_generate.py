"""Generation: the cache, padding, the end token and the window change nothing they should not change."""

import pytest
import torch
from torch import nn

from llmbook.inference import generate, next_token_distribution
from llmbook.model import DecoderLM, TransformerConfig

SCHEMES = ("none", "sinusoidal", "learned", "t5", "alibi", "rope")


def make_model(positions: str = "rope", **overrides) -> DecoderLM:
    """Two layers with matrices of std 0.5, untied: with small weights the text repeats one token, mistakes hide."""
    values = dict(vocab_size=29, max_seq_len=24, d_model=24, n_layers=2, n_heads=4, tie_embeddings=False)
    values["positions"] = positions
    model = DecoderLM(TransformerConfig(**{**values, **overrides}))
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        if p.ndim >= 2:
            nn.init.normal_(p, std=0.5, generator=generator)
    return model


@pytest.fixture
def prompt():
    return torch.randint(29, (2, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("positions", SCHEMES)
def test_the_cache_does_not_change_the_text(positions, prompt):
    """Catches a forgotten position offset or a mask shifted by one in the cached path."""
    model = make_model(positions)
    kwargs = dict(max_new_tokens=15, temperature=0)
    cached, uncached = (generate(model, prompt, use_cache=use, **kwargs) for use in (True, False))
    assert torch.equal(cached, uncached)
    assert len(cached[:, 5:].unique()) > 4  # not one token repeated, which would prove little


@pytest.mark.parametrize("positions", SCHEMES)
def test_each_greedy_token_is_the_argmax_of_a_fresh_pass(positions, prompt):
    """Catches logits taken at another position than the last: the result, read once more, predicts itself."""
    model = make_model(positions)
    ids = generate(model, prompt, max_new_tokens=12, temperature=0)
    with torch.no_grad():
        predicted = model(ids).logits.argmax(-1)
    assert torch.equal(ids[:, 5:], predicted[:, 4:-1])


@pytest.mark.parametrize("positions", ["learned", "rope", "alibi", "none"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_beyond_max_seq_len_the_last_window_is_read_anew(positions, use_cache, prompt):
    """Catches a cache used beyond its length: after the window has moved, its keys stand at wrong positions."""
    model = make_model(positions, max_seq_len=8)
    ids = generate(model, prompt, max_new_tokens=14, temperature=0, use_cache=use_cache)
    expected = prompt
    with torch.no_grad():
        for _ in range(14):
            token = model(expected[:, -8:]).logits[:, -1].argmax(-1, keepdim=True)
            expected = torch.cat([expected, token], dim=1)
    assert torch.equal(ids, expected)


@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("max_seq_len", [24, 8])
def test_a_padded_batch_writes_what_each_row_writes_alone(positions, max_seq_len):
    """Catches padding that is attended to, or counted as a position; with and without a moving window."""
    model = make_model(positions, max_seq_len=max_seq_len)
    rows = [torch.randint(29, (n,), generator=torch.Generator().manual_seed(n)) for n in (2, 6, 4)]
    ids = torch.full((3, 6), 11)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, 6 - len(row) :] = row
        mask[i, 6 - len(row) :] = True
    together = generate(model, ids, attention_mask=mask, max_new_tokens=9, temperature=0)
    for i, row in enumerate(rows):
        alone = generate(model, row[None], max_new_tokens=9, temperature=0)
        assert torch.equal(together[i, 6:], alone[0, len(row) :])
        assert torch.equal(
            together[i], generate(model, ids, attention_mask=mask.int(), max_new_tokens=9, temperature=0)[i]
        )


def test_a_finished_row_is_filled_with_the_end_token(prompt):
    """Catches a row that goes on after its end, or that stops the rows which have not ended."""
    model = make_model()
    free = generate(model, prompt, max_new_tokens=12, temperature=0)
    new = free[:, 5:]
    eos = next(int(t) for t in new[0] if t not in new[1])  # ends row 0 only
    end = int((new[0] == eos).nonzero()[0])
    ids = generate(model, prompt, max_new_tokens=12, temperature=0, eos_token_id=eos)
    assert torch.equal(ids[1], free[1])
    assert torch.equal(ids[0, : 5 + end + 1], free[0, : 5 + end + 1])
    assert (ids[0, 5 + end :] == eos).all()
    alone = generate(model, prompt[:1], max_new_tokens=12, temperature=0, eos_token_id=eos)
    assert alone.shape[1] == 5 + end + 1  # nothing left to write


def test_an_end_token_in_the_prompt_does_not_end_the_row(prompt):
    """Catches rows declared finished because the prompt holds the end token, as a separator does."""
    model = make_model()
    free = generate(model, prompt, max_new_tokens=6, temperature=0)
    eos = int(prompt[0, -1])
    assert eos not in free[:, 5:]
    assert torch.equal(generate(model, prompt, max_new_tokens=6, temperature=0, eos_token_id=eos), free)


def test_a_generator_repeats_the_draw(prompt):
    """Catches draws from the global random state in place of the generator given."""
    model = make_model()
    kwargs = dict(max_new_tokens=15, temperature=1.5, top_k=20, top_p=0.95)
    first, second, other = (
        generate(model, prompt, generator=torch.Generator().manual_seed(seed), **kwargs) for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_top_k_one_is_greedy(prompt):
    """Catches dials that are accepted and ignored."""
    model = make_model()
    greedy = generate(model, prompt, max_new_tokens=10, temperature=0)
    assert torch.equal(generate(model, prompt, max_new_tokens=10, temperature=3.0, top_k=1), greedy)
    assert torch.equal(generate(model, prompt, max_new_tokens=10, temperature=3.0, top_p=1e-6), greedy)


def test_dropout_is_off_and_the_mode_comes_back(prompt):
    """Catches text written with dropout on, and a model silently left in evaluation mode."""
    model = make_model(dropout=0.5).train()
    texts = [generate(model, prompt, max_new_tokens=10, temperature=0) for _ in range(2)]
    assert torch.equal(*texts)
    assert model.training
    assert not next_token_distribution(model, prompt).requires_grad


def test_next_token_distribution_is_the_softmax_of_the_last_logits(prompt):
    """Catches a distribution of another position, or one that does not follow the dials of generate."""
    model = make_model()
    with torch.no_grad():
        expected = model(prompt).logits[:, -1].softmax(-1)
    torch.testing.assert_close(next_token_distribution(model, prompt), expected)
    assert ((next_token_distribution(model, prompt, top_k=3) > 0).sum(-1) == 3).all()


def test_nothing_to_write_returns_the_prompt(prompt):
    """Catches an off-by-one in the number of new tokens."""
    model = make_model()
    assert torch.equal(generate(model, prompt, max_new_tokens=0), prompt)
    assert generate(model, prompt, max_new_tokens=1).shape == (2, 6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(temperature=-1.0), "temperature=-1.0"),
        (dict(top_k=0), "top_k=0"),
        (dict(top_p=1.5), "top_p=1.5"),
        (dict(max_new_tokens=-3), "max_new_tokens=-3"),
        (dict(eos_token_id=29), "eos_token_id=29"),
        (dict(input_ids=torch.zeros(1, 0, dtype=torch.long)), "empty prompt"),
        (dict(input_ids=torch.tensor([[1, 29]])), "holds 29, outside the vocabulary 0…28"),
        (dict(input_ids=torch.tensor([[-2, 1]])), "holds -2"),
        (dict(attention_mask=torch.tensor([[1, 1], [1, 0]])), r"row 1 is \[1, 0\]: padding must stand on the left"),
    ],
)  # fmt: skip
def test_bad_input_is_named(kwargs, message):
    """Catches an index error from inside the model, or text written after padding, in place of a clear word."""
    valid = dict(input_ids=torch.tensor([[1, 2], [3, 4]]), max_new_tokens=3)
    with pytest.raises(ValueError, match=message):
        generate(make_model(), **{**valid, **kwargs})
