"""Letters and sounds: the vocabulary, its batches, the dictionary."""

import hashlib
import itertools

import pytest
import torch

from llmbook.text import LettersAndSounds, load_pronunciations, pronunciation_batches, split_at_random
from llmbook.text.pronunciation import END_ID, PAD_ID, SOUNDS, START_ID

WORDS = {"cat": ("K", "AE", "T"), "knight": ("N", "AY", "T"), "a" * 12: ("AH",) * 3, "of": ("AH", "V")}


def test_the_dictionary_is_read_as_it_is():
    """Catches stress digits or comments left in, later entries that replace the first, words that are too long."""
    words = load_pronunciations()
    assert words["knight"] == ("N", "AY", "T")
    assert words["read"] in {("R", "EH", "D"), ("R", "IY", "D")}
    assert {sound for sounds in words.values() for sound in sounds} == set(SOUNDS)
    assert all(2 <= len(word) <= 12 and word.isalpha() and word.islower() for word in words)
    assert all(1 <= len(sounds) <= 12 for sounds in words.values())
    assert len(words) > 100_000
    assert max(map(len, load_pronunciations(longest=5))) == 5


def test_a_batch_is_what_the_objective_takes():
    """Catches a start or an end left out, padding that counts, letters and sounds that share a number."""
    vocabulary = LettersAndSounds()
    batch = vocabulary.batch(["cat", "of"], [WORDS["cat"], WORDS["of"]])
    assert batch["input_ids"].shape == (2, 3)
    assert batch["attention_mask"].tolist() == [[True, True, True], [True, True, False]]
    first, second = batch["decoder_input_ids"].tolist()
    assert (first[0], first[-1]) == (START_ID, END_ID)
    assert second[3:] == [END_ID, PAD_ID]
    assert not set(first[1:-1]) & set(batch["input_ids"].flatten().tolist())
    assert batch["decoder_attention_mask"].sum(1).tolist() == [5, 4]
    assert vocabulary.write(first) == ["K", "AE", "T"]
    assert vocabulary.write(second) == ["AH", "V"]
    assert "decoder_input_ids" not in vocabulary.batch(["cat"])


def test_an_unknown_symbol_is_named():
    """Catches a capital letter or an accent that becomes some other number."""
    with pytest.raises(ValueError, match="'é'"):
        LettersAndSounds().read("café")


def test_batches_hold_every_word_once_a_round_and_repeat_by_seed():
    """Catches words that are lost at the end of a batch, batches over their size, and a seed without effect."""
    words = {
        f"{a}{b}{'e' * (i % 5)}": ("AH",) * (1 + i % 3) for i, (a, b) in enumerate(itertools.product("bcdf", "aeio"))
    }
    first, second, other = (pronunciation_batches(words, list(words), symbols=60, seed=seed) for seed in (0, 0, 1))
    seen, same, changed = [], True, False
    while len(seen) < len(words):
        batch, again, else_ = next(first), next(second), next(other)
        assert batch["input_ids"].shape[0] * (batch["input_ids"].shape[1] + batch["decoder_input_ids"].shape[1]) <= 80
        same &= torch.equal(batch["input_ids"], again["input_ids"])
        changed |= not torch.equal(batch["input_ids"], else_["input_ids"])
        vocabulary = LettersAndSounds()
        seen += ["".join(vocabulary.symbols[i] for i in row if i) for row in batch["input_ids"].tolist()]
    assert sorted(seen) == sorted(words)
    assert same
    assert changed


def test_held_out_words_are_apart_and_always_the_same():
    """Catches a word that is trained on and tested, a kept word that is held out, a draw that moves with the order."""
    words = load_pronunciations(longest=4)
    train, test = split_at_random(words, held_out=50, keep=["that", "this"])
    assert len(test) == 50
    assert not set(train) & set(test)
    assert {"that", "this"} <= set(train)
    again = split_at_random(reversed(list(words)), held_out=50, keep=["that", "this"])[1]
    assert hashlib.sha256(" ".join(again).encode()).digest() == hashlib.sha256(" ".join(test).encode()).digest()
    with pytest.raises(ValueError, match="held_out=9"):
        split_at_random(["a", "b"], held_out=9)
