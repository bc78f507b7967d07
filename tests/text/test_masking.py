"""Masking: the right tokens, in the right shares, the same ones after a resume."""

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from llmbook.text import LMBatches, MappedBatches, MaskTokens

VOCAB_SIZE, MASK, CLS = 40, 40, 0


def share(n_hits, n_trials, expected, sigmas=5) -> None:
    """A count within five standard deviations of a binomial: a right one fails once in 1.7 million runs."""
    deviation = math.sqrt(n_trials * expected * (1 - expected))
    assert abs(n_hits - n_trials * expected) <= sigmas * deviation, (n_hits / n_trials, expected)


def long_text(n=60_000) -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (20, n // 20), generator=torch.Generator().manual_seed(4))


def ours(ids) -> tuple[torch.Tensor, torch.Tensor]:
    change = MaskTokens(vocab_size=VOCAB_SIZE, mask_id=MASK, special_ids=[CLS])
    batch = change({"input_ids": ids}, np.random.default_rng(0))
    return batch["input_ids"], batch["labels"]


def huggingface(ids) -> tuple[torch.Tensor, torch.Tensor]:
    words = {f"w{i}": i for i in range(VOCAB_SIZE)} | {"[MASK]": MASK}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w1")), mask_token="[MASK]", pad_token="w0"
    )
    torch.manual_seed(0)
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.15)
    out = batch([{"input_ids": row} for row in ids.tolist()])
    return out["input_ids"], out["labels"]


@pytest.mark.parametrize(("collate", "may_be_mask"), [(ours, 0), (huggingface, 1)], ids=["ours", "transformers"])
def test_shares_are_those_of_bert(collate, may_be_mask):
    """Catches 15 % of the wrong total, and shares taken one of the other: ours and transformers' pass one check.

    A random token may be the very one it replaces. transformers draws it from all 41 ids, [MASK] and the special one
    among them, we from the 39 ordinary ones.
    """
    ids = long_text()
    inputs, labels = collate(ids)
    chosen, ordinary = labels != -100, ids != CLS
    share(int(chosen.sum()), int(ordinary.sum()), 0.15)
    n = int(chosen.sum())
    one = 1 / (VOCAB_SIZE + 1 if may_be_mask else VOCAB_SIZE - 1)
    share(int((inputs[chosen] == MASK).sum()), n, 0.8 + 0.1 * one * may_be_mask)
    share(int((inputs[chosen] == ids[chosen]).sum()), n, 0.1 + 0.1 * one)
    share(int(((inputs != ids) & (inputs != MASK) & chosen).sum()), n, 0.1 * (1 - one - one * may_be_mask))


def test_only_chosen_tokens_change_and_labels_hold_the_original():
    """Catches labels taken after the corruption, and a special token or padding that is hidden or drawn."""
    ids = long_text(4000)
    ids[:, 0] = CLS
    real = torch.ones_like(ids)
    real[3, 50:] = 0
    change = MaskTokens(vocab_size=VOCAB_SIZE, mask_id=MASK, special_ids=[CLS], probability=0.9)
    out = change({"input_ids": ids, "attention_mask": real}, np.random.default_rng(1))
    chosen = out["labels"] != -100
    assert torch.equal(out["labels"][chosen], ids[chosen])
    assert torch.equal(out["input_ids"][~chosen], ids[~chosen])
    assert not chosen[ids == CLS].any()
    assert not chosen[3, 50:].any()
    assert chosen[3, 1:50].any()
    assert not (out["input_ids"][chosen] == CLS).any()
    assert out["attention_mask"] is real
    assert set(out["input_ids"][chosen].tolist()) == set(range(1, VOCAB_SIZE + 1))


def mapped(seed=0, batch_seed=0):
    batches = LMBatches(list(range(1, 39)) * 3, batch_size=4, seq_len=15, seed=batch_seed)
    return MappedBatches(batches, MaskTokens(vocab_size=VOCAB_SIZE, mask_id=MASK), seed=seed)


def same(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_corruption_resumes_exactly():
    """Catches masks drawn from a generator that lives on between batches, or from the global one."""
    uninterrupted = mapped()
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    whole = [next(uninterrupted) for _ in range(5)]
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    interrupted = mapped()
    for _ in range(2):
        next(interrupted)
    resumed = mapped()
    resumed.load_state_dict(interrupted.state_dict())
    assert all(same(next(resumed), batch) for batch in whole[2:])
    with pytest.raises(ValueError, match="saved with seed=0, but these batches have seed=1"):
        mapped(seed=1).load_state_dict(interrupted.state_dict())
    with pytest.raises(ValueError, match="saved with seed=0, but these batches have seed=7"):
        mapped(batch_seed=7).load_state_dict(interrupted.state_dict())


def test_masks_differ_from_batch_to_batch_and_from_the_windows_draw():
    """Catches one mask for all batches, and a mask drawn with the very numbers that chose the windows."""
    stream = mapped()
    patterns = [next(stream)["labels"] != -100 for _ in range(4)]
    assert not any(torch.equal(a, b) for i, a in enumerate(patterns) for b in patterns[:i])
    seen = []
    probe = MappedBatches(LMBatches(range(99), batch_size=2, seq_len=4), lambda b, g: seen.append(g.random(3)) or b)
    next(probe)
    assert not np.allclose(seen[0], np.random.default_rng([0, 0]).random(3))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"probability": 0}, "probability=0: must"),
        ({"probability": 1.5}, "probability=1.5"),
        ({"masked": 0.8, "random": 0.3}, "masked=0.8 and random=0.3"),
        ({"vocab_size": 2, "special_ids": [0, 1]}, "all 2 tokens are special"),
    ],
)
def test_senseless_shares_are_named(options, says):
    """Catches a corruption that hides nothing or everything without a word."""
    with pytest.raises(ValueError, match=says):
        MaskTokens(**{"vocab_size": VOCAB_SIZE, "mask_id": MASK, **options})
