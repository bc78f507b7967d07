"""One ``Sampling`` for every road: what it holds, what each option does, and what a road refuses."""

import pickle
import re

import pytest
import torch

from llmbook.inference import (
    Engine,
    Grammar,
    GrammarProcessor,
    Guidance,
    PromptLookup,
    Request,
    Sampling,
    beam_search,
    complete,
    completions,
    fuse,
    generate,
    guide,
    next_token_distribution,
    penalise_counts,
    speculative_generate,
    stream,
    stream_tokens,
)
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import ByteTokenizer, HFTokenizer
from tests.inference.helpers import fill, gpt2_pair, make_model, padded, prompts


@pytest.fixture(scope="module")
def model():
    return make_model(max_seq_len=64)


@pytest.fixture(scope="module")
def writer():
    """A model over bytes, for what needs text."""
    return make_model(vocab_size=256, max_seq_len=96)


@pytest.fixture
def prompt():
    return prompts(1, 5)


def test_sampling_and_keywords_are_the_same(model, prompt):
    """A road that takes the keywords and forgets the ``Sampling``, or lets the ``Sampling`` win over a keyword."""
    options = dict(max_new_tokens=7, temperature=1.3, top_k=9, seed=3)
    sampling = Sampling(**options)
    text = generate(model, prompt, sampling)
    assert torch.equal(text, generate(model, prompt, **options))
    assert torch.equal(text, torch.cat([prompt, *stream_tokens(model, prompt, sampling)], dim=1))
    assert completions(model, prompt.tolist(), sampling)[0].ids == text[0].tolist()
    assert torch.equal(generate(model, prompt, sampling, max_new_tokens=3), text[:, :8])
    engine = Engine(model, n_pages=16, page_size=8)
    (task,) = engine.submit(Request(prompt_ids=prompt[0].tolist(), sampling=sampling))
    engine.run()
    assert task.ids == text[0].tolist()
    shown = next_token_distribution(model, prompt, sampling)
    assert torch.equal(shown, next_token_distribution(model, prompt, temperature=1.3, top_k=9))
    assert pickle.loads(pickle.dumps(sampling)) == sampling


def test_the_fused_decoder_takes_the_same_options():
    """A decoder in fewer operations for which an option does nothing."""
    config = TransformerConfig.llama(
        vocab_size=29, max_seq_len=32, d_model=16, d_ff=32, n_layers=1, n_heads=2, n_kv_heads=1
    )
    model = fill(DecoderLM(config), 0.5)
    fused = fuse(model)
    options = dict(max_new_tokens=8, frequency_penalty=1.0, logit_bias={3: 4.0}, seed=1, n=2, top_p=0.9)
    assert torch.equal(generate(fused, prompts(1, 3), **options), generate(model, prompts(1, 3), **options))


def test_a_text_does_not_depend_on_the_texts_beside_it(model):
    """Rows that draw from one generator: add a row, and all others change. The seed of row i is seed + i."""
    rows, ids, mask = padded((3, 6, 4))
    options = dict(max_new_tokens=8, temperature=1.5)
    together = generate(model, ids, attention_mask=mask, seed=10, n=2, **options)
    assert together.shape == (6, 14)
    for i in range(6):
        alone = generate(model, rows[i // 2], seed=10 + i, **options)
        assert torch.equal(together[i, -8:], alone[0, -8:])
    assert len(together[:, -8:].unique(dim=0)) == 6
    same = generate(model, rows[0], generator=torch.Generator().manual_seed(12), **options)
    assert torch.equal(same, generate(model, rows[0], seed=12, **options))


def test_the_engine_writes_n_texts_as_generate_does(model, prompt):
    """Texts of one request that are all the same, or that share a generator."""
    options = dict(max_new_tokens=6, temperature=1.4, seed=2**63 - 2, n=4)  # the seeds go round
    engine = Engine(model, n_pages=24, page_size=8, max_batch=3)
    tasks = engine.submit(Request(prompt_ids=prompt[0].tolist(), sampling=Sampling(**options)))
    engine.run()
    expected = generate(model, prompt, **options)
    assert [task.ids for task in tasks] == expected.tolist()
    assert len(expected.unique(dim=0)) == 4


def test_without_a_length_the_context_is_filled(model, prompt):
    """A default length that cuts texts nobody wanted cut, or a text longer than the model reads."""
    assert generate(model, prompt, temperature=0).shape == (1, 64)
    with pytest.raises(ValueError, match="a prompt of 64 tokens fills the context of 64: give max_new_tokens"):
        generate(model, prompts(1, 64), temperature=0)
    assert generate(model, prompts(1, 64), temperature=0, max_new_tokens=2).shape == (1, 66)  # the window moves on


@pytest.mark.parametrize("length", [1, 2, 30])
@pytest.mark.parametrize("cache", [True, False])
def test_log_probabilities_are_those_of_a_fresh_pass(model, length, cache):
    """Log-probabilities after temperature or penalties, of the token before, or of padding: a model that reads the
    whole text anew gives the true ones."""
    rows = [[5], [3, 9, 14, 2], list(range(20))]
    found = completions(
        model, rows, max_new_tokens=length, temperature=0.7, top_k=3, repetition_penalty=1.5, logit_bias={4: 3.0},
        logprobs=2, prompt_logprobs=True, seed=0, n=2, use_cache=cache,
    )  # fmt: skip
    assert len(found) == 6
    for completion, row in zip(found, [row for row in rows for _ in range(2)], strict=True):
        assert completion.prompt_ids == row
        log_p = model(torch.tensor([completion.ids])).logits[0].log_softmax(-1)
        scored = [*completion.prompt_logprobs, *completion.logprobs]
        assert scored[0] is None
        assert len(scored) == len(row) + length
        for i, one in enumerate(scored[1:]):
            assert one.token == completion.ids[i + 1]
            assert one.logprob == pytest.approx(log_p[i, one.token].item(), abs=1e-4)
            best = log_p[i].topk(2)
            assert [token for token, _ in one.top] == best.indices.tolist()
            assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_the_engine_gives_the_same_log_probabilities(model):
    """Log-probabilities of a neighbour in the batch, or lost when a text gives its pages back."""
    sampling = Sampling(max_new_tokens=9, temperature=0, logprobs=2, prompt_logprobs=True)
    rows = [[5], [3, 9, 14, 2], list(range(20)), [7] * 11]
    engine = Engine(model, n_pages=12, page_size=4, max_batch=4)
    tasks = [engine.submit(Request(prompt_ids=row, sampling=sampling))[0] for row in rows]
    engine.run()
    assert any(task.n_preempted for task in tasks)
    for task, expected in zip(tasks, completions(model, rows, sampling), strict=True):
        assert task.tokens == expected.tokens
        for name in ("logprobs", "prompt_logprobs"):
            ours = [None if one is None else one.logprob for one in getattr(task, name)]
            assert ours == pytest.approx(
                [None if one is None else one.logprob for one in getattr(expected, name)], abs=1e-4
            )
    only = engine.submit(Request(prompt_ids=rows[1], sampling=Sampling.of(sampling, {"max_new_tokens": 0})))
    engine.run()
    assert (only[0].tokens, only[0].finish_reason) == ([], "length")
    assert only[0].prompt_logprobs[1].logprob == pytest.approx(tasks[1].prompt_logprobs[1].logprob, abs=1e-4)


def test_presence_and_frequency_by_hand():
    """The prompt counted (OpenAI's formula counts what was written), one penalty in place of the other, a penalty that
    multiplies."""
    logits, counts = torch.tensor([[1.0, -1.0, 0.5, 2.0]]), torch.tensor([[0, 1, 3, 0]])
    found = penalise_counts(logits, counts, presence=0.5, frequency=0.25)
    assert found.tolist() == [[1.0, -1.75, -0.75, 2.0]]
    ids = torch.tensor([[3, 3, 0, 2, 1, 2, 2]])
    history = Sampling(presence_penalty=0.5, repetition_penalty=2).history(ids, n_prompt=3, vocab_size=4)
    assert history.counts.tolist() == [[0, 1, 3, 0]]
    assert history.seen.tolist() == [[True, True, True, True]]
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    torch.testing.assert_close(sampling.scores(logits, history), found)
    padded_ids, mask = torch.tensor([[1, 1, 2, 0]]), torch.tensor([[0, 0, 1, 1]])
    history = Sampling(frequency_penalty=1.0, repetition_penalty=2).history(padded_ids, mask, n_prompt=3, vocab_size=4)
    assert history.counts.tolist() == [[1, 0, 0, 0]]
    assert history.seen.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_work_on_every_road(model, prompt, penalty):
    """A road on which a penalty does nothing: each text must be the one that a loop written out here finds."""
    options = {penalty: 1.9, "max_new_tokens": 12, "temperature": 0}
    ids = prompt
    for _ in range(12):
        counts = torch.bincount(ids[0, 5:], minlength=29)
        lowered = model(ids).logits[0, -1] - 1.9 * (counts.clamp(max=1) if penalty.startswith("p") else counts)
        ids = torch.cat([ids, lowered.argmax()[None, None]], dim=1)
    assert not torch.equal(ids, generate(model, prompt, max_new_tokens=12, temperature=0))
    assert torch.equal(generate(model, prompt, **options), ids)
    found = speculative_generate(model, prompt, draft=PromptLookup(29, max_ngram=1), k=3, **options)
    assert torch.equal(found.sequences, ids)
    assert beam_search(model, prompt, num_beams=1, **{**options, "temperature": 1.0}).sequences.shape == ids.shape
    engine = Engine(model, n_pages=16, page_size=8)
    (task,) = engine.submit(Request(prompt_ids=prompt[0].tolist(), sampling=Sampling(**options)))
    engine.run()
    assert task.ids == ids[0].tolist()


def test_bias_and_beams_equal_transformers():
    """A bias added to the wrong token or after the penalty, and beams that leave both out of their scores."""
    ours, theirs = gpt2_pair()
    _, ids, mask = padded((3, 6, 4))
    bias, options = {3: 2.5, 7: -4.0, 11: 1.0}, dict(max_new_tokens=9, repetition_penalty=1.6)
    expected = theirs.generate(
        ids, attention_mask=mask, do_sample=False, sequence_bias={(token,): value for token, value in bias.items()},
        num_beams=3, num_return_sequences=3, return_dict_in_generate=True, output_scores=True, **options,
    )  # fmt: skip
    found = beam_search(ours, ids, attention_mask=mask, logit_bias=bias, num_beams=3, n=3, **options)
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.scores, expected.sequences_scores, atol=1e-4, rtol=1e-4)
    greedy = theirs.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        sequence_bias={(token,): value for token, value in bias.items()},
        **options,
    )
    assert torch.equal(generate(ours, ids, attention_mask=mask, temperature=0, logit_bias=bias, **options), greedy)
    forbidden = generate(ours, ids, attention_mask=mask, seed=1, max_new_tokens=20, logit_bias={3: float("-inf")})
    assert not (forbidden[:, 6:] == 3).any()


def test_the_processor_masks_in_transformers_generate():
    """A mask that only works in our loop, or that reads the prompt as a part of the text."""
    import transformers

    tokenizer = HFTokenizer.train("true false null, true", vocab_size=262, special_tokens=["<|endoftext|>"])
    (end,) = tokenizer.end_tokens
    config = transformers.GPT2Config(
        vocab_size=262, n_positions=64, n_embd=24, n_layer=1, n_head=2, bos_token_id=end, eos_token_id=end
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    grammar = Grammar.regex("(true|false|null)(, (true|false))*", tokenizer)
    ids = torch.tensor([[80, 81, 82], [90, 91, 92]])
    processor = GrammarProcessor(grammar, n_prompt=ids.shape[1], eos_token_id=[end])
    found = theirs.generate(
        ids, max_new_tokens=30, do_sample=True, logits_processor=[processor], eos_token_id=end, pad_token_id=end,
        attention_mask=torch.ones_like(ids),
    )  # fmt: skip
    for row in found[:, ids.shape[1] :].tolist():
        text = b"".join(tokenizer.token_bytes(token) for token in row).decode()
        assert re.fullmatch(grammar.source, text) or len(row) == 30
    logits = torch.zeros(2, 262)
    assert torch.equal(processor(ids, logits)[0].isfinite(), grammar.matcher().allowed(262, [end]))


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_guidance_equals_transformers(scale):
    """Guidance in the wrong direction, of probabilities in place of their logarithms, or by a negative prompt that does
    not see the new text."""
    ours, theirs = gpt2_pair()
    ids, negative = prompts(1, 4), prompts(1, 6, seed=8)
    for negative_ids in ((), negative[0].tolist()):
        expected = theirs.generate(
            ids, do_sample=False, max_new_tokens=10, guidance_scale=scale,
            negative_prompt_ids=negative if negative_ids else None,
        )  # fmt: skip
        guidance = Guidance(negative_ids=negative_ids, scale=scale)
        options = dict(max_new_tokens=10, temperature=0, guidance=guidance)
        assert torch.equal(generate(ours, ids, **options), expected)
        assert torch.equal(generate(ours, ids, use_cache=False, **options), expected)
        draft = PromptLookup(29, max_ngram=1)
        assert torch.equal(speculative_generate(ours, ids, draft=draft, **options).sequences, expected)
        again = beam_search(ours, ids, num_beams=1, max_new_tokens=10, guidance=guidance)
        assert torch.equal(again.sequences, expected)


def test_guidance_by_hand():
    """A scale that is off by one: 1 must change nothing, 0 give the negative prompt's own distribution."""
    p, n = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.2, 0.2, 0.6]])
    torch.testing.assert_close(guide(p.log(), n.log(), 1.0).softmax(-1), p)
    torch.testing.assert_close(guide(p.log(), n.log(), 0.0).softmax(-1), n)
    expected = p**2 / n
    torch.testing.assert_close(guide(p.log(), n.log(), 2.0).softmax(-1), expected / expected.sum())


def test_stop_strings_on_every_road(writer):
    """A road that writes on behind a stop string, or ends with another token than the others."""
    tokenizer, ids = ByteTokenizer(), torch.tensor([list(b"To be")])
    options = dict(max_new_tokens=40, temperature=0)
    (free,) = completions(writer, ids.tolist(), tokenizer=tokenizer, **options)
    assert len(free.text) > 20
    stop = next(found[0] for found in re.finditer(r"[ -~]{2}", free.text[6:]))
    cut = free.text[: free.text.index(stop)]
    options["stop"] = ["never this", stop]
    (found,) = completions(writer, ids.tolist(), tokenizer=tokenizer, **options)
    assert (found.text, found.finish_reason) == (cut, "stop")
    n = len(found.tokens)
    assert n < 40
    assert "".join(stream(writer, tokenizer, "To be", **options)) == cut
    assert complete(writer, tokenizer, ["To be", "or not"], **options)[0] == cut
    assert generate(writer, ids, tokenizer=tokenizer, **options)[0, 5:].tolist() == found.tokens
    assert torch.cat([*stream_tokens(writer, ids, tokenizer=tokenizer, **options)], 1)[0].tolist() == found.tokens
    guessed = speculative_generate(writer, ids, draft=PromptLookup(256, max_ngram=1), tokenizer=tokenizer, **options)
    assert guessed.sequences[0, 5:].tolist() == found.tokens
    engine = Engine(writer, n_pages=16, page_size=8, tokenizer=tokenizer)
    (task,) = engine.submit(Request(prompt_ids=ids[0].tolist(), sampling=Sampling(**options)))
    engine.run()
    assert (task.text, task.finish_reason, task.tokens) == (cut, "stop", found.tokens)
    for write in (generate, stream_tokens):
        with pytest.raises(ValueError, match=r"stop strings need a tokenizer; give tokenizer="):
            write(writer, ids, **options)


def test_complete_gives_n_texts_for_each_prompt(writer):
    """Texts of one prompt given to another."""
    tokenizer, options = ByteTokenizer(), dict(max_new_tokens=6, seed=5, temperature=1.2)
    texts = complete(writer, tokenizer, ["a", "longer"], n=2, **options)
    expected = [
        complete(writer, tokenizer, [p], **{**options, "seed": 5 + i})[0]
        for i, p in enumerate(["a", "a", "longer", "longer"])
    ]
    assert texts == expected
    assert len(set(texts)) == 4


ROADS = {
    "generate": lambda m, ids, **o: generate(m, ids, **o),
    "stream_tokens": lambda m, ids, **o: stream_tokens(m, ids, **o),
    "beam_search": lambda m, ids, **o: beam_search(m, ids, num_beams=3, **o),
    "speculative": lambda m, ids, **o: speculative_generate(m, ids, draft=PromptLookup(29), **o),
    "stream": lambda m, ids, **o: stream(m, ByteTokenizer(), "a", **o),
    "complete": lambda m, ids, **o: complete(m, ByteTokenizer(), ["a"], **o),
    "engine": lambda m, ids, **o: Engine(m, n_pages=9).submit(Request(prompt_ids=[1], sampling=Sampling(**o))),
}
NOT_HERE = [
    ("generate", dict(logprobs=1), "logprobs=1: completions gives log-probabilities"),
    ("stream_tokens", dict(logprobs=0), "logprobs=0: completions gives log-probabilities"),
    ("stream", dict(n=2), "n=2: stream yields one text; take complete"),
    ("stream", dict(logprobs=0), "logprobs=0: completions gives"),
    ("complete", dict(logprobs=0), "logprobs=0: completions gives"),
    ("speculative", dict(n=2), "n=2: speculation writes one text"),
    ("speculative", dict(logprobs=0), "logprobs=0: completions gives"),
    ("beam_search", dict(temperature=0.5), "temperature=0.5: a beam search draws nothing"),
    ("beam_search", dict(top_k=3), "top_k=3: a beam search draws nothing"),
    ("beam_search", dict(seed=3), "seed=3: a beam search draws nothing"),
    ("beam_search", dict(stop="a"), "give eos_token_id"),
    ("engine", dict(guidance=Guidance(scale=2)), "guidance reads two texts"),
]  # fmt: skip


@pytest.mark.parametrize(("road", "options", "words"), NOT_HERE)
def test_what_a_road_cannot_do_is_refused(model, prompt, road, options, words):
    """An option accepted and ignored: the answer to another question than was asked."""
    with pytest.raises(ValueError, match=re.escape(words)):
        ROADS[road](model, prompt, max_new_tokens=3, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(n=0), "n=0: must be a whole number of at least 1"),
        (dict(n=True), "n=True: must be a whole number"),
        (dict(seed=2**63), f"seed={2**63}: must be a whole number"),
        (dict(seed=1.5), "seed=1.5: must be a whole number"),
        (dict(logprobs=-1), "logprobs=-1: must be a whole number that is not negative"),
        (dict(prompt_logprobs=True), "prompt_logprobs=True needs logprobs"),
        (dict(max_new_tokens=2.0), "max_new_tokens=2.0: must be a whole number"),
        (dict(presence_penalty=float("nan")), "presence_penalty=nan: must be finite"),
        (dict(frequency_penalty="much"), "frequency_penalty='much': must be a number"),
        (dict(logit_bias={3: float("nan")}), "logit_bias={3: nan}: must be a number, or -inf"),
        (dict(logit_bias=[3]), "logit_bias=[3]: must give numbers by token"),
        (dict(logit_bias={"a": 1}), "logit_bias={'a': 1}: must give numbers by token"),
        (dict(logit_bias={29: 1.0}), "logit_bias names 29, outside the vocabulary 0…28"),
        (dict(stop=[""]), "stop='': a stop string must be text of at least one character"),
        (dict(stop=[3]), "stop=3: a stop string must be text"),
        (dict(guidance=2.0), "guidance=2.0: give Guidance("),
        (dict(guidance=Guidance(scale=2), logprobs=1), "logprobs=1 with guidance"),
        (dict(seed=1, generator=torch.Generator()), "seed=1 and a generator were given"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(model, prompt, options, words):
    """An error from inside torch, or a text written with an option that means nothing."""
    with pytest.raises(ValueError, match=re.escape(words)):
        generate(model, prompt, **{"max_new_tokens": 2, **options})


def test_a_wrong_scale_is_named():
    """A negative prompt that turns every probability into NaN."""
    for scale in (float("inf"), "2", None, True):
        with pytest.raises(ValueError, match=re.escape(f"scale={scale!r}: must be a finite number")):
            Guidance(scale=scale)


def test_a_sampling_can_be_compared_and_kept():
    """Options that are the same and do not compare so; a ``Sampling`` that somebody changes under another's hands."""
    sampling = Sampling(logit_bias={3: 1}, stop="x", eos_token_id=[1, 2])
    assert sampling == Sampling(logit_bias=((3, 1.0),), stop=["x"], eos_token_id=torch.tensor([1, 2]))
    assert hash(sampling) == hash(Sampling.of(sampling))
    assert dict(sampling.logit_bias) == {3: 1.0}
    with pytest.raises(AttributeError):
        sampling.n = 3
