"""Windows for training and evaluation: the right ones, every one, and the same ones after a resume."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from llmbook.text import LMBatches, as_tokens, eval_windows, load_tokens, save_tokens

TOKENS = list(range(100, 200))


def take(batches, n):
    return [next(batches)["input_ids"] for _ in range(n)]


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, tuple], ids=lambda make: make.__name__)
def test_windows_are_consecutive_tokens(make):
    """Catches windows that wrap, skip, or are one short for the shifted targets."""
    (batch,) = take(LMBatches(make(TOKENS), batch_size=5, seq_len=7), 1)
    assert batch.shape == (5, 8)
    assert batch.dtype == torch.int64
    assert (batch.diff(dim=1) == 1).all()


def test_every_start_is_drawn():
    """Catches an off-by-one that never shows the first or the last token, or reads beyond the end."""
    batches = LMBatches(TOKENS, batch_size=50, seq_len=90)
    starts = torch.cat([batch[:, 0] for batch in take(batches, 20)])
    assert set(starts.tolist()) == set(range(100, 110))


def test_exactly_one_window():
    """Catches refusing, or reading beyond, a corpus of seq_len + 1 tokens."""
    (batch,) = take(LMBatches([1, 2, 3], batch_size=2, seq_len=2), 1)
    assert batch.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_batches_are_a_function_of_seed_and_step():
    """Catches hidden state: any order of access gives the same batches, and the global generator is not touched."""
    batches = LMBatches(TOKENS, batch_size=3, seq_len=5, seed=1)
    before = torch.random.get_rng_state()
    first = take(batches, 4)
    assert all(torch.equal(batches.batch(k)["input_ids"], first[k]) for k in (2, 0, 3, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], LMBatches(TOKENS, batch_size=3, seq_len=5, seed=2).batch(0)["input_ids"])


def test_resume_is_exact():
    """Catches repeating or skipping a batch when a killed run continues."""
    whole = take(LMBatches(TOKENS, batch_size=3, seq_len=5), 6)
    interrupted = LMBatches(TOKENS, batch_size=3, seq_len=5)
    take(interrupted, 2)
    resumed = LMBatches(TOKENS, batch_size=3, seq_len=5)
    resumed.load_state_dict(interrupted.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(take(resumed, 4), whole[2:], strict=True))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 9}, "seed=0, but these batches have seed=9"),
        ({"batch_size": 9}, "batch_size=3"),
        ({"seq_len": 9}, "seq_len=5"),
        ({"tokens": TOKENS[:-1]}, "n_tokens=100, but these batches have n_tokens=99"),
    ],
)
def test_resume_with_other_settings_is_refused(change, says):
    """Catches continuing at step k of another sequence, which looks fine and is not the same run."""
    settings = {"tokens": TOKENS, "batch_size": 3, "seq_len": 5}
    state = LMBatches(settings["tokens"], batch_size=3, seq_len=5).state_dict()
    settings |= change
    other = LMBatches(settings.pop("tokens"), **settings)
    with pytest.raises(ValueError, match=says):
        other.load_state_dict(state)
    assert other.step == 0


@pytest.mark.parametrize("seed", range(3))
def test_without_replacement_an_epoch_reads_everything_once(seed):
    """Catches windows that overlap or are left out, one order for all epochs, a window's last target lost."""
    batches = LMBatches(TOKENS, batch_size=3, seq_len=7, seed=seed, replacement=False)
    assert batches.batches_per_epoch == 4  # 93 // 7 = 13 windows wherever the first begins
    epochs = [torch.cat(take(batches, 4)) for _ in range(3)]
    for windows in epochs:
        assert (windows.diff(dim=1) == 1).all()
        targets = windows[:, 1:].flatten()
        assert len(targets.unique()) == len(targets) == 4 * 3 * 7
        assert len((windows[:, 0] % 7).unique()) == 1
    assert len({tuple(windows[:, 0].tolist()) for windows in epochs}) == 3
    assert len({int(windows[0, 0] % 7) for windows in [torch.cat(take(batches, 4)) for _ in range(20)]}) > 3


def test_without_replacement_the_order_is_drawn():
    """Catches windows that come one after another as they stand in the text."""
    windows = torch.cat(take(LMBatches(TOKENS, batch_size=3, seq_len=7, replacement=False), 4))
    assert (windows[:, 0].diff() == 7).sum() < 6


@pytest.mark.parametrize("n_done", [1, 3, 4, 6])
def test_without_replacement_batches_are_a_function_of_seed_and_step(n_done):
    """Catches an order that depends on what was drawn before, and a resume in a wrong place of an epoch."""
    options = dict(batch_size=3, seq_len=7, seed=5, replacement=False)
    whole = take(LMBatches(TOKENS, **options), 10)
    interrupted, resumed = LMBatches(TOKENS, **options), LMBatches(TOKENS, **options)
    take(interrupted, n_done)
    resumed.load_state_dict(interrupted.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(take(resumed, 10 - n_done), whole[n_done:], strict=True))
    assert torch.equal(interrupted.batch(9)["input_ids"], whole[9])
    with pytest.raises(ValueError, match="replacement=False, but these batches have replacement=True"):
        LMBatches(TOKENS, **{**options, "replacement": True}).load_state_dict(interrupted.state_dict())


def test_too_few_windows_for_a_batch_are_named():
    """Catches an epoch without a batch, which would divide by zero at the first."""
    with pytest.raises(ValueError, match="13 windows of 7 tokens that do not overlap, too few for a batch of 14"):
        LMBatches(TOKENS, batch_size=14, seq_len=7, replacement=False)


@pytest.mark.parametrize("n_tokens", [2, 3, 7, 8, 9, 14, 15, 16, 100])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_token_after_the_first_is_predicted_exactly_once(n_tokens, batch_size):
    """Catches a lost last window, a token scored twice at a border, and padding that is scored."""
    tokens = np.arange(1, n_tokens + 1)
    scored = []
    for batch in eval_windows(tokens, batch_size=batch_size, seq_len=7):
        inputs, labels = batch["input_ids"], batch["labels"]
        assert inputs.shape == labels.shape
        assert inputs.shape[1] == 8
        assert (labels[:, 0] == -100).all()
        real = labels[:, 1:] != -100
        assert torch.equal(inputs[:, 1:][real], labels[:, 1:][real])
        assert torch.equal(inputs[:, :-1][real] + 1, labels[:, 1:][real])  # the input just before each target
        assert (inputs[:, 1:][~real] == 0).all()
        scored += labels[:, 1:][real].tolist()
    assert scored == list(range(2, n_tokens + 1))


def test_evaluation_does_not_change_training():
    """Catches a shared position between the two."""
    batches = LMBatches(TOKENS, batch_size=3, seq_len=5)
    list(eval_windows(batches.tokens, batch_size=2, seq_len=5))
    assert torch.equal(next(batches)["input_ids"], batches.batch(0)["input_ids"])


@pytest.mark.parametrize(
    ("tokens", "options", "says"),
    [
        (TOKENS[:5], {"seq_len": 5}, r"has 5 tokens, too few for one window of seq_len \+ 1 = 6"),
        ([], {}, "no tokens"),
        ([1, 2, 70, 3], {"vocab_size": 65}, r"id 70 at position 2 is outside the vocabulary \(0 to 64\)"),
        ([1, -1, 2], {}, "id -1 at position 1"),
        ([[1, 2], [3, 4]], {}, r"flat sequence of ids, got shape \(2, 2\)"),
        ([0.5, 1.5, 2.5], {}, "must be integers, got float64"),
        (list("text"), {}, "must be integers"),
        (TOKENS, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (TOKENS, {"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
        (TOKENS, {"seq_len": "8"}, "seq_len must be a whole number, got '8'"),
        (TOKENS, {"seq_len": 0}, "seq_len must be at least 1, got 0"),
        (TOKENS, {"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_input_is_named(tokens, options, says):
    """Catches errors that appear at the first batch, or on the GPU as an assertion without a number."""
    with pytest.raises(ValueError, match=says):
        LMBatches(tokens, **{"batch_size": 2, "seq_len": 2, **options})


@pytest.mark.parametrize(("tokens", "says"), [([], "no tokens"), ([7], "at least 2 tokens")])
def test_evaluation_refuses_at_the_call(tokens, says):
    """Catches a generator that complains only when it is read, or a perplexity of nothing."""
    with pytest.raises(ValueError, match=says):
        eval_windows(tokens, batch_size=2, seq_len=2)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65, np.uint16), (65_536, np.uint16), (65_537, np.int32)])
def test_storage_is_as_small_as_the_vocabulary_allows(tmp_path, vocab_size, dtype):
    """Catches ids wrapping round in two bytes, and a stored stream that is not the one given."""
    ids = [0, vocab_size - 1, 3, 4]
    save_tokens(tmp_path / "ids.npy", ids, vocab_size=vocab_size)
    stored = load_tokens(tmp_path / "ids.npy")
    assert isinstance(stored, np.memmap)
    assert stored.dtype == dtype
    assert stored.tolist() == ids
    assert np.shares_memory(LMBatches(stored, batch_size=1, seq_len=3).tokens, stored)
    assert take(LMBatches(stored, batch_size=1, seq_len=3), 1)[0].tolist() == [ids]


def test_stored_file_keeps_its_name(tmp_path):
    """Catches numpy adding .npy to a name, and temporary files left behind."""
    save_tokens(tmp_path / "sub" / "train.bin", [1, 2], vocab_size=3)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["train.bin"]
    assert as_tokens(load_tokens(tmp_path / "sub" / "train.bin")).tolist() == [1, 2]


def test_a_mapped_corpus_is_not_loaded(tmp_path):
    """All of a mapped file read, and masks as long as it made, to check ids of which a batch needs a few."""
    path = tmp_path / "tokens.npy"
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(50_000_000,))  # 100 MB of zeros
    mapped[40_000_000] = 999
    del mapped
    program = (
        "import resource, sys\n"
        "from llmbook.text import LMBatches\n"
        "from llmbook.text.batches import load_tokens\n"
        "import numpy, torch\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "numpy.ones(8) > 0, torch.ones(8).long()\n"
        "tokens = load_tokens(sys.argv[1])\n"
        "before = peak()\n"
        "batches = LMBatches(tokens, batch_size=4, seq_len=64, vocab_size=900)\n"
        "next(batches)\n"
        "print((peak() - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30, f"{done.stdout} MB for a batch of 260 tokens"
    batches = LMBatches(load_tokens(path), batch_size=1, seq_len=10, vocab_size=900)
    batches.starts = lambda step: np.array([39_999_995])
    with pytest.raises(ValueError, match=r"id 999 at position 40,000,000 is outside the vocabulary \(0 to 899\)"):
        batches.batch(0)
