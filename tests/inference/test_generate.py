"""Generation: the cache, padding, the end token and the window change nothing they should not change."""

from functools import partial

import pytest
import torch

from llmbook.inference import (
    ConditionedDecoder,
    Sampling,
    beam_search,
    generate,
    next_token_distribution,
    stream_tokens,
)
from llmbook.inference.decoding_state import DecodingState, check_prompt
from llmbook.model import KVCache, PagedCache, PagePool, SlidingKVCache, evaluating
from tests.inference.helpers import gpt2_pair, make_encoder_decoder, make_model, padded, prompts

SCHEMES = ("none", "sinusoidal", "learned", "t5", "alibi", "rope")


@pytest.fixture
def prompt():
    return prompts(2, 5)


@pytest.mark.parametrize("positions", SCHEMES)
def test_the_cache_does_not_change_the_text(positions, prompt):
    """Catches a forgotten position offset or a mask shifted by one in the cached path."""
    model = make_model(positions)
    kwargs = dict(max_new_tokens=9, temperature=0)
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


@pytest.mark.parametrize(("positions", "use_cache"), [("learned", True), ("rope", True), ("alibi", False)])
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


@pytest.mark.parametrize(
    ("positions", "max_seq_len"), [*((scheme, 24) for scheme in SCHEMES), ("learned", 8), ("rope", 8)]
)
def test_a_padded_batch_writes_what_each_row_writes_alone(positions, max_seq_len):
    """Catches padding that is attended to, or counted as a position; with and without a moving window."""
    model = make_model(positions, max_seq_len=max_seq_len)
    rows, ids, mask = padded((2, 6))
    together = generate(model, ids, attention_mask=mask, max_new_tokens=7, temperature=0)
    assert torch.equal(together, generate(model, ids, attention_mask=mask.bool(), max_new_tokens=7, temperature=0))
    for i, row in enumerate(rows):
        alone = generate(model, row, max_new_tokens=7, temperature=0)
        assert torch.equal(together[i, 6:], alone[0, row.shape[1] :])


@pytest.mark.parametrize(
    "options",
    [
        dict(temperature=0, repetition_penalty=1.7),
        dict(temperature=5.0, min_p=1.0, eos_token_id=[4, 26, 9], min_new_tokens=4),
        dict(temperature=2.0, top_k=1, repetition_penalty=0.6, eos_token_id=[4, 26, 9], min_new_tokens=2),
    ],
)
def test_every_dial_in_a_padded_batch(options):
    """Catches padding that counts as a token of the text, and rows that share what each should have alone: the
    padding is the token that each row goes on with, so that counting it would change the row."""
    model = make_model()
    rows, ids, mask = padded()
    options = dict(max_new_tokens=9, **options)
    alone = [generate(model, row, **options)[0, row.shape[1] :] for row in rows]
    for i, row in enumerate(rows):
        ids[i, : 6 - row.shape[1]] = alone[i][0]
    together = generate(model, ids, attention_mask=mask, **options)
    assert torch.equal(together, generate(model, ids, attention_mask=mask, use_cache=False, **options))
    for new, text in zip(together[:, 6:], alone, strict=True):
        assert torch.equal(new[: len(text)], text)
        assert (new[len(text) :] == 4).all()  # ended earlier than others


@pytest.mark.parametrize("seed", range(2))
def test_the_loop_equals_transformers(seed):
    """Catches dials applied to the wrong text or in the wrong order: the penalty counts prompt and new tokens, the
    end is forbidden for exactly ``min_new_tokens``, each of several end tokens ends."""
    ours, theirs = gpt2_pair(seed)
    ids = prompts(3, 5, seed=seed)
    ends = [2, 5, 7, 11]
    for penalty, n_min in ((1.4, 0), (1.4, 3), (0.8, 5)):
        expected = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, min_new_tokens=n_min,
            repetition_penalty=penalty, eos_token_id=ends, pad_token_id=ends[0],
        )  # fmt: skip
        found = generate(
            ours, ids, temperature=0, max_new_tokens=10, min_new_tokens=n_min, repetition_penalty=penalty,
            eos_token_id=ends,
        )  # fmt: skip
        assert torch.equal(found, expected), (penalty, n_min)


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


def test_each_of_several_end_tokens_ends_a_row(prompt):
    """Catches a list of which only the first is heeded; the row is filled with the first, after the one drawn."""
    model = make_model()
    free = generate(model, prompt, max_new_tokens=12, temperature=0)[0, 5:]
    unused = next(i for i in range(29) if i not in free)
    drawn = int(free[4])
    end = int((free == drawn).nonzero()[0])
    ids = generate(model, prompt, max_new_tokens=12, temperature=0, eos_token_id=[unused, drawn])[0, 5:]
    assert torch.equal(ids[: end + 1], free[: end + 1])
    assert (ids[end + 1 :] == unused).all()


@pytest.mark.parametrize("n", [1, 3, 7])
def test_the_end_is_allowed_after_exactly_so_many_tokens(prompt, n):
    """Catches an off-by-one in min_new_tokens: with only one other token to choose, the length is known."""
    model = make_model(vocab_size=2)
    model.lm_head.weight.data[1] = 0
    model.lm_head.weight.data[0] = torch.eye(24)[0]  # the end token wins or loses by the sign of one number
    model.backbone.final_norm.weight.data.zero_()
    model.backbone.final_norm.bias.data.fill_(1.0)
    ids = generate(model, prompt % 2, max_new_tokens=9, min_new_tokens=n, temperature=0, eos_token_id=0)
    assert ids[:, 5:].tolist() == [[1] * n + [0]] * 2


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


def test_a_cache_of_another_kind_and_a_cache_already_filled(prompt):
    """Catches a cache that is accepted and ignored, or read again from the start."""
    model = make_model(sliding_window=3)
    options = dict(max_new_tokens=12, temperature=0)
    expected = generate(model, prompt, use_cache=False, **options)
    sliding = SlidingKVCache(model.config, batch_size=2)
    assert torch.equal(generate(model, prompt, cache=sliding, **options), expected)
    assert sliding.length == 5 + 11  # the last token is drawn and not read
    filled = KVCache(model.config, batch_size=2)
    with torch.no_grad():
        model(prompt[:, :3], cache=filled)
    filled.values[0][:, :, 2] *= -1  # only a reader of this cache can notice
    assert not torch.equal(generate(model, prompt, cache=filled, **options), expected)
    with pytest.raises(ValueError, match="the cache holds 16 positions and the text has 5"):
        generate(model, prompt, cache=sliding, **options)
    with pytest.raises(ValueError, match="use_cache=False"):
        generate(model, prompt, cache=KVCache(model.config, batch_size=2), use_cache=False, **options)


def test_a_model_in_bfloat16_remembers_in_bfloat16(prompt):
    """Catches keys and values kept in another type than the model computes in: an error, or twice the memory."""
    model = make_model().bfloat16()
    reader = DecodingState(model, prompt[:, :3])
    with evaluating(model):
        reader.logits()
        reader.append(prompt[:, 3:])
        torch.testing.assert_close(reader.logits(2), model(prompt).logits[:, -2:], atol=0.2, rtol=0)
    assert {memory.dtype for memory in reader.cache.tensors()} == {torch.bfloat16}


def test_pages_write_what_no_cache_writes():
    """Catches the padding of a batch read out of its pages, a page too few at a border, and rows that hold unequal
    beginnings taken for equal ones."""
    model = make_model()
    _, ids, mask = padded((2, 6))
    options = dict(max_new_tokens=9, temperature=0)
    pool = PagePool(model.config, n_pages=12, page_size=4)
    paged = PagedCache(pool, [pool.new_sequence(), pool.new_sequence()])
    text = generate(model, ids, attention_mask=mask, cache=paged, **options)
    assert torch.equal(text, generate(model, ids, attention_mask=mask, use_cache=False, **options))
    assert (paged.length, pool.n_free) == (6 + 8, 12 - 2 * 4)
    fork = pool.fork(paged.sequences[0])
    fork.length -= 1
    uneven = PagedCache(pool, [paged.sequences[0], fork])
    with pytest.raises(ValueError, match=r"rows hold \[15, 14\] positions: pass attention_mask"):
        generate(model, text[:1].expand(2, -1), cache=uneven, **options)


@pytest.mark.parametrize("kind", ["sliding", "paged"])
def test_a_cache_that_cannot_go_back_says_so(kind):
    """Catches an AttributeError from inside, and a text that has changed although its cache could not follow."""
    model, ids = make_model(sliding_window=3), prompts(2, 5)
    pool = PagePool(model.config, n_pages=8, page_size=4)
    paged = PagedCache(pool, [pool.new_sequence(), pool.new_sequence()])
    cache = {"sliding": SlidingKVCache(model.config, batch_size=2), "paged": paged}[kind]
    reader = DecodingState(model, ids, cache=cache)
    with evaluating(model):
        reader.logits()
        for change, method in [
            (lambda: reader.logits(2), "crop"),
            (lambda: reader.rewrite(ids[:, :3]), "crop"),
            (lambda: reader.reorder(torch.tensor([1, 0])), "reorder"),
        ]:
            with pytest.raises(ValueError, match=f"a {type(cache).__name__} has no {method}: .* give a KVCache"):
                change()
            assert torch.equal(reader.ids, ids)
        reader.rewrite(torch.cat([ids, ids[:, :1]], dim=1))  # writing on is no way back
        torch.testing.assert_close(reader.logits(), model(reader.ids).logits[:, -1:], atol=1e-5, rtol=0)


def test_an_encoder_decoder_writes_like_any_model():
    """Catches a source forgotten after the first step, read with its padding, or encoded with dropout."""
    model, source, start = make_encoder_decoder(), prompts(3, 6), torch.zeros(3, 1, dtype=torch.long)
    mask = torch.ones_like(source)
    mask[1, 4:] = 0
    options = dict(max_new_tokens=10, temperature=0)
    ids = generate(ConditionedDecoder(model, source, mask), start, **options)
    assert torch.equal(ids, generate(ConditionedDecoder(model, source, mask), start, use_cache=False, **options))
    with evaluating(model):
        logits = model(source, ids, attention_mask=mask).logits
    assert torch.equal(ids[:, 1:], logits[:, :-1].argmax(-1))
    assert torch.equal(ids[1:2], generate(ConditionedDecoder(model, source[1:2, :4]), start[:1], **options))
    assert len(ids.unique(dim=0)) == 3
    with pytest.raises(ValueError, match="an encoder–decoder reads its source first: give ConditionedDecoder"):
        generate(model, start, **options)
    with pytest.raises(ValueError, match="4 rows cannot be shared among 3 sources"):
        generate(ConditionedDecoder(model, source), prompts(4, 1), **options)


@pytest.mark.parametrize(
    "options",
    [
        dict(temperature=0),
        dict(top_k=1),
        dict(top_p=0.2),
        dict(min_p=0.8),
        dict(repetition_penalty=20.0),
        dict(eos_token_id=list(range(0, 29, 2))),
        dict(eos_token_id=list(range(0, 29, 2)), min_new_tokens=7),
        dict(attention_mask=torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])),
    ],
    ids=lambda options: list(options)[-1],
)
def test_one_by_one_or_together_every_option_counts(options, prompt):
    """Catches an option that ``generate`` or ``stream_tokens`` takes and does not hand on."""
    model, draws = make_model(), lambda: dict(max_new_tokens=9, generator=torch.Generator().manual_seed(4))
    text = generate(model, prompt, **draws(), **options)
    assert torch.equal(text, torch.cat([prompt, *stream_tokens(model, prompt, **draws(), **options)], dim=1))
    assert not torch.equal(text, generate(model, prompt, **draws()))
    for write in (generate, stream_tokens):
        with pytest.raises(ValueError, match="a cache was given together with use_cache=False"):
            write(model, prompt, max_new_tokens=9, cache=KVCache(model.config, batch_size=2), use_cache=False)


def test_between_two_tokens_the_model_is_as_it_was(prompt):
    """Catches gradients and dropout switched off for whoever consumes the tokens one by one, as training may."""
    model = make_model(dropout=0.5).train()
    texts = []
    for _ in range(2):
        new = []
        for token in stream_tokens(model, prompt, max_new_tokens=6, temperature=0):
            assert (model.training, torch.is_grad_enabled()) == (True, True)
            new.append(token)
        texts.append(torch.cat(new, dim=1))
    assert torch.equal(*texts)


def test_dropout_is_off_and_the_mode_comes_back(prompt):
    """Catches text written with dropout on, and a model silently left in evaluation mode."""
    model = make_model(dropout=0.5).train()
    texts = [generate(model, prompt, max_new_tokens=10, temperature=0) for _ in range(2)]
    assert torch.equal(*texts)
    assert model.training
    model.backbone.blocks[0].eval()  # frozen, as in fine-tuning
    generate(model, prompt, max_new_tokens=1)
    assert (model.training, model.backbone.blocks[0].training, model.backbone.blocks[1].training) == (True, False, True)
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
        (dict(temperature=1e-9), "temperature=1e-09"),
        (dict(min_p=1.5), "min_p=1.5"),
        (dict(repetition_penalty=0.0), "repetition_penalty=0.0"),
        (dict(max_new_tokens=-3), "max_new_tokens=-3"),
        (dict(min_new_tokens=4, eos_token_id=1), "min_new_tokens=4: must lie between 0 and max_new_tokens=3"),
        (dict(min_new_tokens=-1, eos_token_id=1), "min_new_tokens=-1"),
        (dict(min_new_tokens=2), "min_new_tokens=2 forbids an early end"),
        (dict(eos_token_id=[1, -1]), "eos_token_id=-1"),
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


@pytest.mark.parametrize("given", [3, torch.tensor(3), [3], torch.tensor([3])])
def test_an_end_token_may_come_out_of_a_tensor(given):
    """Catches an iteration over a single number, and a tensor in a list that is searched for integers."""
    (token,) = Sampling(eos_token_id=given).eos_token_id
    assert (type(token), token) == (int, 3)


def test_what_a_reader_cannot_read_is_named(prompt):
    """Catches numbers that are no tokens, and more places asked for than there are, refused in words about tables and
    caches."""
    with pytest.raises(ValueError, match=r"input_ids is of torch\.float32: expected token numbers"):
        check_prompt(make_model(), prompt.float())
    for use_cache in (True, False):
        reader = DecodingState(make_model(), prompt, use_cache=use_cache)
        for n in (0, 6):
            with pytest.raises(ValueError, match=f"n={n}: a text of 5 tokens"):
                reader.logits(n)


def test_a_misspelt_option_is_named():
    """Catches an option that is taken and ignored, and an error about ``Sampling.__init__``, of which the caller has
    never heard."""
    model, ids = make_model(), prompts(1, 3)
    for write in (generate, stream_tokens, next_token_distribution, partial(beam_search, num_beams=2)):
        with pytest.raises(TypeError, match=r"temprature=0\.5: there is no such option; did you mean temperature\?"):
            write(model, ids, temprature=0.5)
    with pytest.raises(TypeError, match="there are max_new_tokens, min_new_tokens, eos_token_id, stop, temperature"):
        next_token_distribution(model, ids, wings=2)
    with pytest.raises(TypeError, match=r"sampling=\{'top_k': 3\}: give a Sampling"):
        Sampling.of({"top_k": 3})
