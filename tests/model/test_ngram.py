"""Counting: nltk's numbers, the formula by dictionaries, and the properties that make it a distribution."""

import math
from collections import Counter

import pytest
import torch

from llmbook.model import NGramLM
from llmbook.model.baselines import estimate_discounts
from llmbook.text import eval_windows
from llmbook.training import evaluate

ROSES = [
    *("a", "rose", "is", "a", "rose", "is", "a", "rose", "said", "the", "rose", "to", "a", "bee"),
    *("and", "the", "bee", "is", "a", "bee"),
]

# nltk 3.10.4:  lm = KneserNeyInterpolated(order=3, discount=0.75)
#               lm.fit([list(everygrams(["<s>"] + ROSES, max_len=3))], vocabulary_text=ROSES)
#               [round(lm.score(word, context), 8) for word in ("a", "rose", "bee", "said")]
NLTK = {
    (): [0.21428571, 0.14285714, 0.14285714, 0.07142857],
    ("a",): [0.08035714, 0.36607143, 0.36607143, 0.02678571],
    ("is", "a"): [0.04017857, 0.59970238, 0.26636905, 0.01339286],
    ("the", "bee"): [0.12053571, 0.08035714, 0.08035714, 0.04017857],
    ("rose", "bee"): [0.16071429, 0.10714286, 0.10714286, 0.05357143],  # never seen: as after "bee"
    ("to", "to"): [0.41071429, 0.10714286, 0.10714286, 0.05357143],  # never seen: as after "to"
}


def numbered(words):
    ids = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return ids, [ids[word] for word in words]


def test_the_numbers_are_nltks():
    """Catches raw counts below the highest order, a lost first n-gram, and a context cut at the wrong end."""
    ids, tokens = numbered(ROSES)
    model = NGramLM.count(tokens, order=3, vocab_size=len(ids), discounts=[(0, 0, 0), (0.75,) * 3, (0.75,) * 3])
    for context, expected in NLTK.items():
        p = model.next_token_distribution([ids[word] for word in context])
        found = p[[ids[word] for word in ("a", "rose", "bee", "said")]]
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)


def by_dictionaries(tokens, order, vocab_size, discounts):
    """The module's formula, word for word: p(context, token) with counts in dictionaries."""
    counts = {order: Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))}
    for k in range(order - 1, 0, -1):
        before = {tuple(tokens[i : i + k + 1]) for i in range(len(tokens) - k)} | {(None, *tokens[:k])}
        counts[k] = Counter(longer[1:] for longer in before)

    def p(context, token):
        context = tuple(context)[-(order - 1) :] if order > 1 else ()
        return level(context, token)

    def level(context, token):
        shorter = 1 / vocab_size if not context else None
        after = {gram: c for gram, c in counts[len(context) + 1].items() if gram[:-1] == context}
        shorter = level(context[1:], token) if context else shorter
        if not after:
            return shorter
        d = (0, *discounts[len(context)])
        c, total = after.get((*context, token), 0), sum(after.values())
        gamma = sum(d[min(n, 3)] for n in after.values()) / total
        return (c - d[min(c, 3)]) / total + gamma * shorter

    return p


@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_probability_is_the_formulas(order):
    """Catches a discount of the wrong count, a share not given back, and a path that skips a length."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, (60,), generator=generator)
    discounts = [(0.3, 0.8, 1.1), (0.4, 0.9, 1.2), (0.5, 1.0, 1.3), (0.6, 1.1, 1.7)][:order]
    model = NGramLM.count(tokens, order=order, vocab_size=5, discounts=discounts)  # token 4 never occurs
    p = by_dictionaries(tokens.tolist(), order, 5, discounts)
    text = torch.randint(5, (12,), generator=generator).tolist()
    expected = torch.tensor([[p(text[: t + 1], token) for token in range(5)] for t in range(12)])
    torch.testing.assert_close(model(torch.tensor([text])).logits[0].exp(), expected, atol=1e-6, rtol=1e-5)
    nats = [-math.log(p(text[:t], text[t])) for t in range(12)]
    torch.testing.assert_close(model.token_nll(text), torch.tensor(nats), atol=1e-5, rtol=1e-5)


def test_probabilities_sum_to_one_everywhere():
    """Catches mass lost or made on the way down: after seen, unseen and no contexts, and in every row of a batch."""
    tokens = torch.randint(20, (500,))
    model = NGramLM.count(tokens, order=4, vocab_size=25)
    p = model(torch.randint(25, (3, 40))).logits.exp()
    torch.testing.assert_close(p.sum(-1), torch.ones(3, 40), atol=1e-5, rtol=0)
    assert (p > 0).all()
    assert float(model.next_token_distribution([]).sum()) == pytest.approx(1, abs=1e-5)
    ids = torch.randint(25, (2, 30))
    torch.testing.assert_close(model(ids).logits[1:], model(ids[1:]).logits)


def test_francisco_follows_san_and_nothing_else():
    """Catches plain counts at the lower orders: frequent is not the same as likely anywhere."""
    text = ("san francisco " * 20 + "new glasses my glasses old glasses her glasses").split()
    ids, tokens = numbered(text)
    model = NGramLM.count(tokens, order=2, vocab_size=len(ids))
    after_san = model.next_token_distribution([ids["san"]])
    unknown = model.next_token_distribution([])
    assert text.count("francisco") == 5 * text.count("glasses")
    assert after_san[ids["francisco"]] > 0.9
    assert unknown[ids["glasses"]] > 2 * unknown[ids["francisco"]]


def test_an_unseen_context_is_a_shorter_one():
    """Catches a context that was never seen, or ends the text, and leads to nothing in place of its end."""
    tokens = [0, 1, 2, 0, 1, 3, 2, 0, 4]
    model = NGramLM.count(tokens, order=3, vocab_size=6)
    after = model.next_token_distribution
    torch.testing.assert_close(after([3, 0]), after([0]))  # 3 0 never occurs
    torch.testing.assert_close(after([0, 4]), after([]))  # nothing follows it
    torch.testing.assert_close(after([5, 5, 5, 2, 0]), after([2, 0]))  # no more than two tokens are read


def test_order_one_is_in_closed_form():
    """Catches an order-1 model that reads its context or forgets to smooth: (c − D)/N + (mass taken)/(N V)."""
    tokens = [0] * 5 + [1] * 2 + [2]
    model = NGramLM.count(tokens, order=1, vocab_size=4, discounts=[(0.5, 1.0, 1.5)])
    taken = 0.5 + 1.0 + 1.5
    expected = torch.tensor([3.5, 1.0, 0.5, 0.0]) / 8 + taken / 8 / 4
    torch.testing.assert_close(model(torch.tensor([[3, 0, 1]])).logits.exp()[0], expected.expand(3, 4))
    torch.testing.assert_close(model.token_nll([2]), -expected[2:3].log())


def test_discounts_by_hand():
    """Catches the estimates of Chen and Goodman with an index off by one: 4, 3, 2 and 1 n-grams occur 1 to 4 times."""
    counts = torch.tensor([1] * 4 + [2] * 3 + [3] * 2 + [4] + [9])
    y = 4 / (4 + 2 * 3)
    assert estimate_discounts(counts) == pytest.approx((1 - 2 * y * 3 / 4, 2 - 3 * y * 2 / 3, 3 - 4 * y * 1 / 2))
    assert estimate_discounts(torch.tensor([5, 6])) == (0.5, 1.0, 1.5)  # nothing to estimate from
    assert estimate_discounts(torch.tensor([1, 1, 2, *[3] * 50])) == (0.5, 1.0, 1.5)  # D2 would be negative


def test_it_is_evaluated_like_any_other_model():
    """Catches an interface of its own: the same windows, the same function, the same bits per byte."""
    tokens = torch.randint(6, (200,))
    model = NGramLM.count(tokens, order=3, vocab_size=6)
    text = torch.randint(6, (50,))
    report = evaluate(model, eval_windows(text, batch_size=4, seq_len=49))  # one window: nothing is cut
    nats = model.token_nll(text)[1:]
    assert report.n_tokens == 49
    assert report.loss == pytest.approx(float(nats.mean()), rel=1e-5)
    assert report.bits_per_byte(49) == pytest.approx(float(nats.sum()) / 49 / math.log(2), rel=1e-5)


def test_it_knows_its_own_text_better_with_every_order():
    """Catches a longer context that is looked up wrongly and so never found."""
    tokens = torch.randint(9, (400,))
    losses = [float(NGramLM.count(tokens, order=n, vocab_size=9).token_nll(tokens).mean()) for n in range(1, 6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2.0
    assert losses[-1] < 0.8


@pytest.mark.parametrize(
    ("tokens", "options", "says"),
    [
        ([0, 1], {"order": 3}, "2 tokens has no 3-gram"),
        ([0, 1, 7], {}, "token 7 is outside the vocabulary"),
        ([0, -1, 1], {}, "token -1 is outside"),
        ([0, 1, 2], {"order": 0}, "order=0"),
        ([0, 1, 2], {"discounts": [(0.5, 1, 1.5)]}, "1 discounts for order=2"),
    ],
)
def test_bad_input_is_named(tokens, options, says):
    """Catches a tree built of tokens that overflow into their neighbours' keys."""
    with pytest.raises(ValueError, match=says):
        NGramLM.count(tokens, **{"order": 2, "vocab_size": 5, **options})
