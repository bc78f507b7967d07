"""The models of letters and sounds that travel with the book."""

import pytest
import torch

from llmbook.interop import about_letters_to_sounds, load_letters_to_sounds
from llmbook.interop.letters_to_sounds import WEIGHTS
from llmbook.text import LettersAndSounds, load_pronunciations, split_at_random
from llmbook.training import seq2seq_loss
from publishing.sounds import COMMAND, HELD_OUT, SHOWN, TRAIN


def test_what_is_said_of_them_is_what_the_command_does():
    """Catches models of another command, and a package that grows by accident."""
    about = about_letters_to_sounds()
    assert about["command"] == COMMAND
    assert about["train"] == TRAIN.to_dict()
    assert (about["held_out"], tuple(about["kept_for_training"])) == (HELD_OUT, SHOWN)
    assert WEIGHTS.stat().st_size < 1.3e6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_are_as_good_as_they_say(seed):
    """Catches weights in the wrong order, of another seed, or of another split of the words."""
    about, words = about_letters_to_sounds(), load_pronunciations()
    test = split_at_random(words, held_out=HELD_OUT, keep=SHOWN)[1]
    model = load_letters_to_sounds(seed)
    with torch.no_grad():
        total, n = seq2seq_loss(model, LettersAndSounds().batch(test, [words[word] for word in test]))
    assert float(total / n) == pytest.approx(about["nats_a_sound_held_out"][seed], abs=2e-3)
    assert model.num_parameters() == about["n_parameters"]
    assert not model.training


def test_a_seed_without_a_model_is_named():
    """Catches weights that would stay as they were drawn."""
    with pytest.raises(ValueError, match="seed=7"):
        load_letters_to_sounds(7)
