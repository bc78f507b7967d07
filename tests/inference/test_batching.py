"""Continuous batching: company changes when a text is written, never what is written."""

from dataclasses import replace

import pytest
import torch

from llmbook.inference import ConditionedDecoder, Engine, Request, Sampling, generate
from llmbook.model import DecoderLM
from tests.inference import helpers


def make_model(**overrides) -> DecoderLM:
    return helpers.make_model(**{"max_seq_len": 48, "n_kv_heads": 2, **overrides})


def request(prompt_ids: list[int], **options) -> Request:
    return Request(prompt_ids=prompt_ids, sampling=Sampling(**options))


def make_requests(n: int, **overrides) -> list[Request]:
    """Prompts of 1 to 12 tokens that want 3 to 20 more; greedy and sampled ones in turn, each with its own seed."""
    generator = torch.Generator().manual_seed(5)
    requests = []
    for i in range(n):
        length, n_new = (int(torch.randint(low, high, (1,), generator=generator)) for low, high in ((1, 13), (3, 21)))
        prompt = torch.randint(29, (length,), generator=generator).tolist()
        sampling = Sampling(temperature=0) if i % 2 else Sampling(temperature=1.3, top_p=0.9, repetition_penalty=1.2)
        options = {"max_new_tokens": n_new, "seed": 100 + i, **overrides}
        requests.append(Request(prompt_ids=prompt, sampling=Sampling.of(sampling, options)))
    return requests


def alone(model, request: Request) -> list[int]:
    """What ``generate`` writes for this request without company, with a generator of its seed."""
    seed = request.sampling.seed
    ids = generate(
        model,
        torch.tensor([request.prompt_ids]),
        request.sampling,
        seed=None,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )
    return ids[0, len(request.prompt_ids) :].tolist()


@pytest.mark.parametrize(
    ("overrides", "continuous"),
    [({}, True), ({}, False), (dict(positions="learned"), True), (dict(positions="alibi", sliding_window=6), True)],
)
def test_company_does_not_change_the_text(overrides, continuous):
    """Pages or draws mixed up between rows, a neighbour that finishes and takes another's memory along."""
    model, requests = make_model(**overrides), make_requests(7)
    engine = Engine(model, n_pages=48, page_size=4, max_batch=3, continuous=continuous)
    completions = [engine.submit(request)[0] for request in requests]
    engine.run()
    for completion, request in zip(completions, requests, strict=True):
        assert completion.tokens == alone(model, request)
        assert completion.finish_reason == "length"
    assert engine.pool.n_free == 48
    assert engine.pool.use().held == 0


def test_requests_that_come_later_join():
    """A batch that must end before anyone joins, and texts disturbed when someone does."""
    model, requests = make_model(), make_requests(6, max_new_tokens=9)
    engine = Engine(model, n_pages=48, page_size=4, max_batch=6)
    completions, sizes = [], []
    for request in requests:
        completions += engine.submit(request)
        sizes.append(engine.step().n_running)
    sizes += [step.n_running for step in engine.run()]
    assert sizes == [1, 2, 3, 4, 5, 6, 6, 6, 6, 5, 4, 3, 2, 1]
    assert all(c.tokens == alone(model, r) for c, r in zip(completions, requests, strict=True))


def test_an_end_token_ends_one_text_and_frees_its_place():
    """A row that goes on after its end, an end that stops the others, a place that stays empty."""
    model = make_model()
    prompts = make_requests(3, max_new_tokens=12, temperature=0)
    eos = alone(model, prompts[0])[3]
    requests = [replace(r, sampling=replace(r.sampling, eos_token_id=[eos, 28])) for r in prompts]
    engine = Engine(model, n_pages=24, page_size=4, max_batch=2)
    first, second, third = (engine.submit(request)[0] for request in requests)
    while first.finish_reason is None:
        engine.step()
    assert (first.finish_reason, first.tokens[-1]) == ("stop", eos)
    assert len(first.tokens) <= 4
    engine.step()
    assert third in engine.running
    engine.run()
    for completion, request in zip((first, second, third), requests, strict=True):
        assert completion.tokens == alone(model, request)


def test_a_short_pool_delays_but_does_not_change():
    """Exhaustion that crashes, that loses what was drawn, draws it twice, or leaves a generator at another place."""
    model, requests = make_model(), make_requests(7, max_new_tokens=18)
    engine = Engine(model, n_pages=12, page_size=4, max_batch=7)  # 48 positions for texts of 19 to 30
    completions = [engine.submit(request)[0] for request in requests]
    steps = engine.run()
    assert sum(step.n_preempted for step in steps) == sum(c.n_preempted for c in completions) > 1
    assert max(step.pages_held for step in steps) > 9
    assert all(c.tokens == alone(model, r) for c, r in zip(completions, requests, strict=True))
    assert engine.pool.n_free == 12
    assert completions[0].n_preempted == 0  # who came first never gives way


def test_first_come_first_served():
    """A small request that overtakes a large one, a preempted one that queues up at the end."""
    model = make_model()
    engine = Engine(model, n_pages=8, page_size=4, max_batch=3)
    lengths = [4, 28, 1, 1, 9]
    completions = [engine.submit(request([i] * n, max_new_tokens=4))[0] for i, n in enumerate(lengths)]
    first_seen = {}
    for i, step in enumerate(engine.run()):
        for completion in step.drew:
            first_seen.setdefault(completions.index(completion), i)
    assert list(first_seen) == [0, 1, 2, 3, 4]
    assert first_seen[1] == 4 < first_seen[2]  # 28 tokens do not fit beside 4, and nobody goes before them

    engine = Engine(model, n_pages=4, page_size=4, max_batch=3)
    old, young, late = (engine.submit(request([1] * 3, max_new_tokens=9))[0] for _ in range(3))
    while not young.n_preempted:
        engine.step()
    assert list(engine.waiting) == [young, late]
    assert engine.running == [old]


def test_continuous_batching_needs_fewer_steps():
    """Places that stay empty while someone waits: by hand, with one long text among short ones."""
    model = make_model()
    lengths = [12, 3, 3, 3, 3, 3]
    steps = {}
    for continuous in (True, False):
        engine = Engine(model, n_pages=24, page_size=4, max_batch=2, continuous=continuous)
        for n in lengths:
            engine.submit(request([1, 2], max_new_tokens=n, temperature=0))
        steps[continuous] = engine.run()
    assert [step.n_running for step in steps[True]] == [2] * 12 + [1] * 3
    assert [step.n_running for step in steps[False]] == [2] * 3 + [1] * 9 + [2] * 6
    assert [step.n_joined for step in steps[True]] == [2, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    assert [step.n_waiting for step in steps[True]][:4] == [4, 4, 4, 3]
    assert steps[True][0].n_read == 4
    assert steps[True][1].n_read == 2  # the new tokens only: nothing is read twice
    assert steps[True][3].n_read == 3


def test_a_cancelled_request_frees_its_place():
    """Pages kept by someone who has gone, a neighbour that notices, a second cancellation that frees twice."""
    model, requests = make_model(), make_requests(3, max_new_tokens=10)
    engine = Engine(model, n_pages=24, page_size=4, max_batch=2)
    stays, goes, waits = (engine.submit(request)[0] for request in requests)
    engine.step()
    engine.step()
    held = engine.pool.n_pages - engine.pool.n_free
    engine.finish(goes)
    engine.finish(goes, "stop")
    assert goes.finish_reason == "cancelled"
    assert goes.tokens == alone(model, requests[1])[:2]
    assert engine.pool.n_pages - engine.pool.n_free < held
    engine.finish(waits)
    assert engine.running == [stays]
    assert not engine.waiting
    engine.run()
    assert stays.tokens == alone(model, requests[0])


def test_without_a_seed_texts_differ():
    """Requests that all draw from one fixed seed."""
    model = make_model()
    engine = Engine(model, n_pages=24, page_size=4)
    completions = [engine.submit(request([1], max_new_tokens=20))[0] for _ in range(3)]
    engine.run()
    assert len({tuple(c.tokens) for c in completions}) == 3


def test_a_model_in_training_mode_writes_without_dropout():
    """Text written with dropout on, or a model left in evaluation mode."""
    model, (wanted,) = make_model(dropout=0.5), make_requests(1)
    engine = Engine(model.train(), n_pages=12, page_size=4)
    (completion,) = engine.submit(wanted)
    engine.run()
    assert model.training
    assert completion.tokens == alone(model, wanted)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(prompt_ids=[]), "empty prompt"),
        (dict(prompt_ids=[1, 29]), "holds 29, outside the vocabulary"),
        (dict(max_new_tokens=0), "max_new_tokens=0"),
        (dict(max_new_tokens=-1), "max_new_tokens=-1"),
        (dict(eos_token_id=29), "eos_token_id=29"),
        (dict(prompt_ids=[1] * 40, max_new_tokens=9), "prompt of 40 tokens and max_new_tokens=9 make 49, more than"),
        (dict(prompt_ids=[1] * 20, max_new_tokens=9), "up to 8 pages, and the pool has 7"),
    ],
)  # fmt: skip
def test_what_can_never_be_written_is_refused(values, message):
    """A request that waits for ever, or that fails in the middle of others."""
    engine = Engine(make_model(), n_pages=7, page_size=4)
    with pytest.raises(ValueError, match=message):
        engine.submit(request(**{"prompt_ids": [1], "max_new_tokens": 3, **values}))
    assert not engine.busy


def test_an_engine_for_nobody_is_refused():
    """An engine that would never write anything, or not what its texts' sources say."""
    conditioned = ConditionedDecoder(helpers.make_encoder_decoder(), helpers.prompts())
    with pytest.raises(ValueError, match="encoder–decoder has a source for each text"):
        Engine(conditioned, n_pages=4)
    with pytest.raises(ValueError, match="max_batch=0"):
        Engine(make_model(), n_pages=4, max_batch=0)
