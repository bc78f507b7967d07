"""The filters between logits and a draw, against transformers and against their own definitions."""

import pytest
import torch

from llmbook.inference import (
    Sampling,
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    sample,
    to_distribution,
    tokens_seen,
)


@pytest.fixture
def logits():
    return torch.randn(16, 50, generator=torch.Generator().manual_seed(3)) * 3


CASES = {
    "random": lambda g: torch.randn(16, 50, generator=g) * 3,
    "tied": lambda g: torch.randint(-3, 4, (16, 50), generator=g).float(),
    "all equal": lambda g: torch.zeros(4, 50),
    "extreme": lambda g: torch.randn(16, 50, generator=g) * 1e4,
    "partly forbidden": lambda g: torch.randn(16, 50, generator=g).masked_fill(
        torch.rand(16, 50, generator=g) < 0.5, -torch.inf
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_filters_equal_transformers(case):
    """Catches an off-by-one in a filter (the token that crosses p must stay, the k-th must stay), ties decided
    otherwise, and numbers that overflow."""
    from transformers.generation import logits_process as theirs

    logits = CASES[case](torch.Generator().manual_seed(3))
    for k in (1, 2, 7, 49, 50, 500):
        assert torch.equal(keep_top_k(logits, k), theirs.TopKLogitsWarper(k)(None, logits)), k
    for p in (1e-9, 0.01, 0.3, 0.5, 0.9, 0.99, 1.0):
        ours, other = keep_top_p(logits, p), theirs.TopPLogitsWarper(p)(None, logits)
        assert torch.equal(ours.sort().values, other.sort().values), p  # which of equals stay, theirs leaves to chance
    for p in (0.0, 1e-4, 0.05, 0.5, 1.0):
        assert torch.equal(keep_min_p(logits, p), theirs.MinPLogitsWarper(p)(None, logits)), p
    for t in (0.1, 0.7, 1.0, 2.5):
        assert torch.equal(apply_temperature(logits, t), theirs.TemperatureLogitsWarper(t)(None, logits)), t
    ids = torch.randint(50, (len(logits), 30), generator=torch.Generator().manual_seed(4))  # some twice
    seen = tokens_seen(ids, vocab_size=50)
    for penalty in (0.5, 1.0, 1.3, 10.0):
        expected = theirs.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
        assert torch.equal(penalise_repetition(logits, seen, penalty), expected), penalty


@pytest.mark.parametrize("n", [4, 17, 60, 300])
def test_of_equals_top_p_drops_the_first(n):
    """Catches a choice among equals that depends on how the machine sorts: a page must be able to make the same."""
    kept = keep_top_p(torch.zeros(1, n), 0.6)[0] == 0
    first = int(kept.int().argmax())
    assert 0 < first < n / 2
    assert kept[first:].all()


def test_all_dials_together_equal_transformers(logits):
    """Catches filters applied in another order: top-p before temperature keeps another set."""
    from transformers.generation import logits_process as theirs

    ids = torch.randint(50, (16, 12), generator=torch.Generator().manual_seed(4))
    expected = theirs.RepetitionPenaltyLogitsProcessor(1.8)(ids, logits)
    expected = theirs.TemperatureLogitsWarper(1.7)(None, expected)
    expected = theirs.TopKLogitsWarper(12)(None, expected)
    expected = theirs.TopPLogitsWarper(0.8)(None, expected)
    expected = theirs.MinPLogitsWarper(0.2)(None, expected).softmax(-1)
    dials = dict(temperature=1.7, top_k=12, top_p=0.8, min_p=0.2, repetition_penalty=1.8)
    history = Sampling(repetition_penalty=1.8).history(ids, vocab_size=50)
    ours = to_distribution(logits, history=history, **dials)
    torch.testing.assert_close(ours, expected, atol=1e-7, rtol=0)
    for dial in dials:  # each of them matters here, or its place in the order would not be tested
        others = {name: value for name, value in dials.items() if name != dial}
        assert not torch.allclose(to_distribution(logits, history=history, **others), expected, atol=1e-3), dial


def test_padding_and_repetition_in_what_was_seen():
    """Catches padding counted as text, and a token that stands both in the padding and in the text forgotten."""
    ids, mask = torch.tensor([[3, 3, 1, 1], [3, 3, 3, 0]]), torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    assert tokens_seen(ids, mask, vocab_size=4).int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 1]]
    assert torch.equal(tokens_seen(ids, mask.bool(), vocab_size=4), tokens_seen(ids, mask, vocab_size=4))
    assert tokens_seen(ids, vocab_size=4).int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 1]]


def test_the_penalty_lowers_negative_logits_too():
    """Catches a negative logit divided by the penalty, which would reward the repetition."""
    logits = torch.tensor([[2.0, -2.0, 1.0, -1.0, 0.0]])
    seen = torch.tensor([[True, True, False, False, True]])
    assert penalise_repetition(logits, seen, 2.0).tolist() == [[1.0, -4.0, 1.0, -1.0, 0.0]]
    with pytest.raises(ValueError, match=r"repetition_penalty=2.0 needs the tokens seen so far"):
        to_distribution(logits, repetition_penalty=2.0)


def test_min_p_is_relative_to_the_likeliest():
    """Catches an absolute threshold: 0.2 of the likeliest is another bound in each row."""
    logits = torch.tensor([[0.8, 0.15, 0.05], [0.4, 0.35, 0.25]]).log()
    assert keep_min_p(logits, 0.2).isfinite().tolist() == [[True, False, False], [True, True, True]]


def test_a_draw_is_from_the_distribution(logits):
    """Catches a short cut for greedy, or a draw, that leaves out a dial; and a generator that is not used."""
    ids = torch.randint(50, (16, 30), generator=torch.Generator().manual_seed(4))
    greedy = Sampling(temperature=0, repetition_penalty=3.0)
    past = greedy.history(ids, vocab_size=50)
    assert torch.equal(greedy.draw(logits, past)[:, 0], greedy.distribution(logits, past).argmax(-1))
    assert not torch.equal(greedy.draw(logits, past)[:, 0], logits.argmax(-1))
    dials = Sampling(temperature=2.0, top_k=5, repetition_penalty=3.0)
    first, second, other = (dials.draw(logits, past, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, sample(dials.distribution(logits, past), torch.Generator().manual_seed(1)))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_top_p_is_the_smallest_set_that_reaches_p():
    """Catches a set one token too small or too large, on probabilities that can be added by hand."""
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    kept = {p: keep_top_p(logits, p).isfinite()[0].tolist() for p in (0.4, 0.6, 0.8, 0.95)}
    assert kept == {
        0.4: [False, True, False, False],
        0.6: [False, True, False, True],
        0.8: [False, True, True, True],
        0.95: [True, True, True, True],
    }


def test_temperature_zero_is_the_likeliest_token_alone(logits):
    """Catches a division by zero, and two winners where the maximum is tied."""
    logits[0, 3] = logits[0, 8] = 100.0
    probabilities = to_distribution(logits, temperature=0)
    assert torch.equal(probabilities.argmax(-1), logits.argmax(-1))
    assert torch.equal(probabilities.max(-1).values, torch.ones(16))
    assert torch.equal(sample(probabilities)[:, 0], logits.argmax(-1))


def test_temperature_orders_the_entropy(logits):
    """Catches a temperature that multiplies instead of dividing."""

    def entropy(temperature):
        p = to_distribution(logits, temperature=temperature)
        return -torch.xlogy(p, p).sum(-1)

    assert (entropy(0.5) < entropy(1.0)).all()
    assert (entropy(1.0) < entropy(2.0)).all()


def test_draws_follow_the_distribution():
    """Catches sampling from logits or from an unnormalised distribution: 20 000 draws within 4 standard errors."""
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    n = 20_000
    draws = sample(probabilities.expand(n, 4), torch.Generator().manual_seed(0))[:, 0]
    share = torch.bincount(draws, minlength=4) / n
    assert ((share - probabilities).abs() < 4 * (probabilities * (1 - probabilities) / n).sqrt()).all()


@pytest.mark.parametrize(
    ("dial", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 1e-30),
        ("top_k", 0),
        ("top_k", 2.5),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("min_p", -0.1),
        ("min_p", 1.01),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", float("inf")),
    ],
)
def test_a_dial_out_of_range_is_named(logits, dial, value):
    """Catches a dial that is accepted and then yields NaN or an empty choice, or is refused for want of another."""
    with pytest.raises(ValueError, match=f"{dial}={value}: must "):
        to_distribution(logits, **{dial: value})


@pytest.mark.parametrize(("dial", "value"), [("temperature", None), ("temperature", "0.7"), ("top_p", "0.9")])
def test_a_dial_that_is_no_number_is_named(dial, value):
    """Catches "'<=' not supported between instances of": a dial as it came from a form or a command line."""
    with pytest.raises(ValueError, match=f"{dial}={value!r}: must be a number"):
        Sampling(**{dial: value})
