"""Speculation: whatever the draft, the text is the model's own, and its distribution too; and it saves passes."""

import inspect
import itertools

import pytest
import torch

from llmbook.inference import (
    ConditionedDecoder,
    DecodingState,
    ModelDraft,
    PromptLookup,
    acceptance,
    generate,
    next_token_distribution,
    residual,
    speculative,
    speculative_generate,
    verify,
)
from tests.inference.helpers import VOCAB_SIZE, Bigrams, make_encoder_decoder, make_model, prompts


def distributions(n: int, vocab_size: int, seed: int) -> torch.Tensor:
    """Random ones, some with zeros, some on a single token."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(n, vocab_size, generator=generator, dtype=torch.float64)
    p[1::3] *= torch.rand(p[1::3].shape, generator=generator) < 0.5
    p[:, 0] += 1e-3
    p[2::3] = torch.eye(vocab_size, dtype=torch.float64)[p[2::3].argmax(-1)]
    return p / p.sum(-1, keepdim=True)


class Fixed:
    """A draft that draws every token from one distribution."""

    def __init__(self, q, seed=0):
        self.q, self.generator = q, torch.Generator().manual_seed(seed)

    def propose(self, ids, k):
        return torch.multinomial(self.q, k, replacement=True, generator=self.generator), self.q.expand(k, -1)


class Garbage:
    """A draft that proposes random tokens, and sometimes none."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def propose(self, ids, k):
        n = int(torch.randint(k + 1, (), generator=self.generator))
        tokens = torch.randint(VOCAB_SIZE, (n,), generator=self.generator)
        return tokens, torch.full((n, VOCAB_SIZE), 1 / VOCAB_SIZE)


# --- the rule


@pytest.mark.parametrize("seed", range(2))
def test_the_rule_emits_each_token_as_often_as_the_model(seed):
    """Catches (p − q)₊ not renormalised, or q/p: summed over every token the draft may draw, to 1e-6."""
    for p in distributions(6, 5, seed):
        for q in distributions(6, 5, seed + 100):
            accepted = q * acceptance(p, q)
            emitted = accepted + (1 - accepted.sum()) * residual(p, q)
            torch.testing.assert_close(emitted, p, atol=1e-6, rtol=0)
            torch.testing.assert_close(residual(p, q).sum(), torch.tensor(1.0, dtype=p.dtype))


def outcomes(p, q):
    """The probability of every list ``verify`` may return, by the rule: over all drafts and all decisions."""
    k, vocab_size = q.shape
    found = {}
    for guesses in itertools.product(range(vocab_size), repeat=k):
        reached = float(torch.stack([q[i, g] for i, g in enumerate(guesses)]).prod())
        for i, g in enumerate(guesses):
            a = float(acceptance(p[i], q[i])[g])
            for own in range(vocab_size):
                new = (*guesses[:i], own)
                found[new] = found.get(new, 0) + reached * (1 - a) * float(residual(p[i], q[i])[own])
            reached *= a
        for own in range(vocab_size):
            new = (*guesses, own)
            found[new] = found.get(new, 0) + reached * float(p[k, own])
    return found


def test_what_comes_out_first_is_distributed_as_the_model_says():
    """Catches an error across several guesses: of all lists that come out, the first token follows p[0] and, where
    there is a second, it follows p[1]."""
    p, q = distributions(12, 3, 0)[[0, 3, 6]], distributions(12, 3, 7)[[0, 3]]
    found = outcomes(p, q)
    assert sum(found.values()) == pytest.approx(1)
    for position in range(3):
        share = torch.zeros(3, dtype=torch.float64)
        for new, probability in found.items():
            if len(new) > position:
                share[new[position]] += probability
        torch.testing.assert_close(share / share.sum(), p[position], atol=1e-6, rtol=0)


def chi_square(counts: dict, expected: dict, n: int) -> tuple[float, int]:
    cells = [(counts.get(key, 0), n * probability) for key, probability in expected.items() if probability > 1e-12]
    assert set(counts) <= {key for key, probability in expected.items() if probability > 1e-12}
    return sum((seen - due) ** 2 / due for seen, due in cells), len(cells) - 1


def test_verify_follows_the_rule():
    """Catches the rule well written and wrongly drawn from: 1,500 lists against their exact probabilities. With
    the right ones chi-square is about its degrees of freedom f, and above f + 4·√(2f) once in thousands."""
    p, q = distributions(12, 3, 0)[[0, 3, 6]], distributions(12, 3, 7)[[0, 3]]
    generator, counts, n = torch.Generator().manual_seed(0), {}, 1_500
    for _ in range(n):
        guesses = torch.multinomial(q, 1, generator=generator)[:, 0]
        new = tuple(verify(guesses, q, p, generator).tolist())
        counts[new] = counts.get(new, 0) + 1
    value, degrees = chi_square(counts, outcomes(p, q), n)
    assert degrees > 20
    assert value < degrees + 4 * (2 * degrees) ** 0.5


def test_equal_distributions_are_always_accepted():
    """Catches 0/0 where nothing is missing, and a bonus token drawn from the last guess's distribution."""
    p = distributions(4, 6, 1)[[0, 3]].float()
    assert torch.equal(acceptance(p[0], p[0])[p[0] > 0], torch.ones(int((p[0] > 0).sum())))
    assert torch.equal(residual(p[0], p[0]), p[0])
    last = torch.zeros(1, 6)
    last[0, 4] = 1
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        guesses = torch.multinomial(p, 1, generator=generator)[:, 0]
        assert verify(guesses, p, torch.cat([p, last]), generator).tolist() == [*guesses.tolist(), 4]


# --- the loop


@pytest.mark.parametrize("dials", [{}, dict(repetition_penalty=1.5, min_p=0.1)])
def test_greedy_text_is_the_models_own(dials):
    """Catches caches not cropped after a rejection, a bonus token off by one, a penalty that forgets the guesses:
    drafts that are the model, another model, garbage, and the text itself."""
    model, ids = make_model(max_seq_len=64), prompts(1, 6)
    expected = generate(model, ids, max_new_tokens=16, temperature=0, **dials)
    drafts = {
        "itself": ModelDraft(model, temperature=0, **dials),
        "another": ModelDraft(make_model(seed=0, std=0.45, max_seq_len=64), temperature=0.7),
        "garbage": Garbage(),
        "lookup": PromptLookup(VOCAB_SIZE, max_ngram=1),
    }
    for name, draft in drafts.items():
        found = speculative_generate(model, ids, draft=draft, k=3, max_new_tokens=16, temperature=0, **dials)
        assert torch.equal(found.sequences, expected), name


def test_what_it_costs():
    """Catches statistics that flatter: passes of the model counted one by one, the draft's own left out."""
    model, ids = make_model(max_seq_len=64), prompts(1, 6)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    perfect = ModelDraft(make_model(max_seq_len=64), temperature=0)  # the same weights, called by itself
    found = speculative_generate(model, ids, draft=perfect, k=4, max_new_tokens=25, temperature=0)
    assert (found.n_new, found.n_target_calls, len(calls)) == (25, 5, 5)
    assert (found.n_proposed, found.n_accepted, found.acceptance_rate) == (20, 20, 1.0)
    assert found.calls_per_token == 0.2

    calls.clear()
    never = Fixed(torch.eye(VOCAB_SIZE)[next(t for t in range(VOCAB_SIZE) if t not in found.sequences)])
    found = speculative_generate(model, ids, draft=never, k=4, max_new_tokens=10, temperature=0)
    assert (found.n_new, found.n_target_calls, len(calls)) == (10, 10, 10)
    assert (found.n_accepted, found.acceptance_rate, found.calls_per_token) == (0, 0.0, 1.0)
    assert found.n_proposed == 6 * 4 + 3 + 2 + 1 + 0  # never more than still fit


def test_each_pass_reads_only_what_is_new():
    """Catches a cache that is thrown away, which no text would show: the widths of all passes."""
    model, ids = make_model(max_seq_len=64), prompts(1, 6)
    widths = []
    model.register_forward_hook(lambda _, args, __: widths.append(args[0].shape[1]))
    speculative_generate(model, ids, draft=Fixed(torch.full((VOCAB_SIZE,), 1 / VOCAB_SIZE)), k=3, max_new_tokens=12)
    assert widths[0] == 6 + 3
    assert max(widths[1:]) == 4  # the token not yet read, and three guesses
    draft = make_model(seed=2, max_seq_len=64)
    drafted = []
    draft.register_forward_hook(lambda _, args, __: drafted.append(args[0].shape[1]))
    speculative_generate(model, ids, draft=ModelDraft(draft), k=3, max_new_tokens=12)
    assert drafted[0] == 6
    assert max(drafted[1:]) <= 2  # after full acceptance: its own last guess and the token after it


@pytest.mark.parametrize("max_new_tokens", [0, 1, 2, 5, 6])
def test_the_text_has_the_length_asked_for(max_new_tokens):
    """Catches a last round that writes too many tokens or too few."""
    model, ids = make_model(), prompts(1, 4)
    found = speculative_generate(model, ids, draft=ModelDraft(model, temperature=0), k=3, max_new_tokens=max_new_tokens)
    assert found.sequences.shape == (1, 4 + max_new_tokens)
    assert found.n_new == max_new_tokens


def test_an_end_token_among_the_accepted_ends_the_text():
    """Catches tokens written after the end because they were accepted in the same pass."""
    model, ids = make_model(max_seq_len=64), prompts(1, 6)
    free = generate(model, ids, max_new_tokens=20, temperature=0)[0, 6:].tolist()
    unused = next(t for t in range(VOCAB_SIZE) if t not in free)
    for end in sorted({free.index(t) for t in free})[1:5]:
        expected = generate(model, ids, max_new_tokens=20, temperature=0, eos_token_id=[unused, free[end]])
        found = speculative_generate(
            model, ids, draft=ModelDraft(model, temperature=0), k=4, max_new_tokens=20, temperature=0,
            eos_token_id=[unused, free[end]],
        )  # fmt: skip
        assert torch.equal(found.sequences, expected)
        assert found.n_new == end + 1


def test_beyond_the_longest_context_the_text_is_still_the_models_own():
    """Catches guesses judged by one window where each has its own."""
    model, draft = make_model(max_seq_len=10), make_model(seed=0, std=0.45, max_seq_len=7)
    ids = prompts(1, 5)
    expected = generate(model, ids, max_new_tokens=16, temperature=0)
    found = speculative_generate(
        model, ids, draft=ModelDraft(draft, temperature=0.5), k=3, max_new_tokens=16, temperature=0
    )
    assert torch.equal(found.sequences, expected)


def test_an_encoder_decoder_speculates_too():
    """Catches a seam that serves decoders only."""
    model, start = make_encoder_decoder(), torch.zeros(1, 1, dtype=torch.long)
    target = ConditionedDecoder(model, prompts(1, 6))
    draft = ModelDraft(ConditionedDecoder(make_encoder_decoder(seed=1), prompts(1, 6)))
    found = speculative_generate(target, start, draft=draft, max_new_tokens=12, temperature=0)
    assert torch.equal(found.sequences, generate(target, start, max_new_tokens=12, temperature=0))


class Decisions:
    """All random choices of a program, one run for each way they may fall, with the probability of the run."""

    def __init__(self):
        self.script: list[int] = []  # which of the possible options to take at each choice

    def choose(self, probabilities: list[float]) -> int:
        possible = [i for i, p in enumerate(probabilities) if p > 0]
        if self.n_made == len(self.script):
            self.script.append(0)
        i = self.script[self.n_made]
        self.more.append(i + 1 < len(possible))
        self.n_made += 1
        self.probability *= probabilities[possible[i]]
        return possible[i]

    def runs(self, program):
        while True:
            self.n_made, self.probability, self.more = 0, 1.0, []
            yield program(), self.probability
            while self.more and not self.more[-1]:
                self.more.pop()
            if not self.more:
                return
            self.script = self.script[: len(self.more)]
            self.script[-1] += 1


def test_sampled_texts_are_distributed_as_the_models(monkeypatch):
    """Catches an error in the loop that greedy cannot show, exactly: over every way all draws may fall, each text of
    three tokens comes out with the product of the model's own probabilities."""
    decisions = Decisions()

    def draw(probabilities, generator=None):
        return torch.tensor([[decisions.choose(probabilities[0].tolist())]])

    class Chances:
        def __init__(self, p, q):
            self.chances = acceptance(p, q)

        def __getitem__(self, guess):
            chance = float(self.chances[guess])
            return 1.0 - decisions.choose([chance, 1 - chance])

    monkeypatch.setattr(speculative, "sample", draw)
    monkeypatch.setattr(speculative, "acceptance", Chances)
    model, other = (Bigrams(torch.randn(2, 2, generator=torch.Generator().manual_seed(s)) * 2) for s in (0, 5))
    ids, dials = torch.tensor([[1, 0]]), dict(temperature=1.5, repetition_penalty=1.3)
    found: dict[tuple, float] = {}

    def write():
        out = speculative_generate(model, ids, draft=ModelDraft(other, temperature=2.0), k=2, max_new_tokens=3, **dials)
        return tuple(out.sequences[0, 2:].tolist())

    for text, probability in decisions.runs(write):
        found[text] = found.get(text, 0.0) + probability
    assert len(found) == 8
    for text, probability in found.items():
        expected, so_far = 1.0, ids
        for token in text:
            expected *= float(next_token_distribution(model, so_far, **dials)[0, token])
            so_far = torch.cat([so_far, torch.tensor([[token]])], dim=1)
        assert probability == pytest.approx(expected, abs=1e-6), text


def test_a_generator_repeats_the_text():
    """Catches a draw from the global random state: acceptance, replacement, bonus and draft."""
    model, ids = make_model(max_seq_len=64), prompts(1, 6)

    def text(seed):
        torch.rand(seed)  # the global state differs
        generator = torch.Generator().manual_seed(seed)
        draft = ModelDraft(make_model(seed=1, max_seq_len=64), generator=generator)
        return speculative_generate(model, ids, draft=draft, max_new_tokens=9, generator=generator).sequences

    first, second, other = (text(seed) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


# --- drafts


@pytest.mark.parametrize(
    ("text", "k", "max_ngram", "expected"),
    [
        ([1, 2, 3, 4, 9, 2, 3], 2, 3, [4, 9]),
        ([1, 2, 3, 4, 9, 2, 3], 9, 3, [4, 9, 2, 3]),
        ([5, 3, 7, 8, 3, 6, 8, 3], 3, 2, [6, 8, 3]),
        ([2, 3, 4, 1, 3, 5, 2, 3], 1, 2, [4]),  # two tokens agree: better than the later place where one does
        ([2, 3, 4, 1, 3, 5, 2, 3], 1, 1, [5]),
        ([4, 4, 4], 3, 3, [4]),
        ([1, 2, 3], 3, 3, []),
        ([1], 3, 3, []),
    ],
)
def test_lookup_proposes_what_followed_last_time(text, k, max_ngram, expected):
    """Catches a match of the ending with itself, an earlier match preferred to a later, a shorter to a longer."""
    tokens, q = PromptLookup(10, max_ngram=max_ngram).propose(torch.tensor([text]), k)
    assert tokens.tolist() == expected
    assert torch.equal(q, torch.eye(10)[tokens])


def test_a_model_draft_says_what_it_drew_from():
    """Catches probabilities of other dials or positions than the tokens were drawn with, also after a rejection."""
    model = make_model(seed=3, max_seq_len=64)
    dials = dict(temperature=0.8, top_k=5, repetition_penalty=1.4)
    draft = ModelDraft(model, **dials)
    for ids in (prompts(1, 6), torch.cat([prompts(1, 6), prompts(1, 2, seed=9)], dim=1), prompts(1, 3)):
        tokens, q = draft.propose(ids, 4)
        text = torch.cat([ids, tokens[None]], dim=1)
        for i in range(4):
            expected = next_token_distribution(model, text[:, : ids.shape[1] + i], **dials)[0]
            torch.testing.assert_close(q[i], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_rewritten_text_is_read_from_where_it_differs():
    """Catches keys of the old text left in the cache, and a text read from further back than needed."""
    model = make_model(max_seq_len=64)
    texts = prompts(2, 9)
    widths = []
    model.register_forward_hook(lambda _, args, __: widths.append(args[0].shape[1]))
    for mask in (None, torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1] * 9])):
        reader = DecodingState(model, texts, attention_mask=mask)
        reader.logits()
        other = texts.clone()
        other[1, 6] = (other[1, 6] + 1) % VOCAB_SIZE
        for ids, width in ((other, 3), (other[:, :5], 1), (torch.cat([other, texts[:, :2]], dim=1), 6)):
            reader.rewrite(ids)
            widths.clear()
            logits = reader.logits(1)
            assert widths == [width]
            full = None if mask is None else torch.cat([mask, mask.new_ones(2, 2)], dim=1)[:, : ids.shape[1]]
            expected = DecodingState(model, ids, attention_mask=full, use_cache=False).logits(1)
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(k=0), "k=0"),
        (dict(max_new_tokens=-1), "max_new_tokens=-1"),
        (dict(eos_token_id=99), "eos_token_id=99"),
        (dict(top_k=0), "top_k=0"),
        (dict(draft=Fixed(torch.full((7,), 1 / 7))), r"shape \(4, 7\) for 4 tokens: the model expects \[4, 29\]"),
        (dict(draft=type("Liar", (), {"propose": lambda *_: (torch.tensor([3]), torch.eye(29)[:1])})()), "token 3"),
        (dict(draft=type("Eager", (), {"propose": lambda *_: (torch.ones(9).long(), None)})()), "proposed 9 tokens"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(options, message):
    """Catches a draft that changes the distribution unnoticed, or fails somewhere inside."""
    valid = dict(draft=Garbage(), max_new_tokens=8)
    with pytest.raises(ValueError, match=message):
        speculative_generate(make_model(), prompts(1, 3), **{**valid, **options})


def test_one_text_at_a_time():
    """Catches a batch of which only the first row is right: refused by the library's own words, which a reader meets
    without the shape checker of these tests."""
    with pytest.raises(ValueError, match="input_ids has 2 rows: speculation writes one text"):
        inspect.unwrap(speculative_generate)(make_model(), prompts(2, 3), draft=Garbage(), max_new_tokens=3)
    with pytest.raises(ValueError, match="max_ngram=0"):
        PromptLookup(29, max_ngram=0)
