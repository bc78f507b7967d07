"""A checkpoint is whole or absent, and says plainly why it cannot be used."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from llmbook.training import Checkpoint, CheckpointError, load_checkpoint, restore_model, save_checkpoint
from llmbook.training.rng import preserved_rng, rng_state, set_rng_state
from tests.training.helpers import same_parameters, tiny_model


def make_checkpoint(step: int = 3, **overrides) -> Checkpoint:
    values = dict(
        model=dict(tiny_model().state_dict()), optimizer={}, scaler={}, rng=rng_state(), data={"position": 7},
        history={"steps": [1, 2, 3]}, train_config={"steps": 9},
    )  # fmt: skip
    return Checkpoint(step=step, **{**values, **overrides})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.pt"


def test_what_is_saved_comes_back(path):
    """Catches a field that is written and not read, and files left beside the checkpoint."""
    saved = make_checkpoint(model_config={"d_model": 16})
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    model = tiny_model(seed=5)
    restore_model(model, loaded.model)
    assert same_parameters(model, tiny_model())
    assert (loaded.step, loaded.data, loaded.history) == (3, saved.data, saved.history)
    assert (loaded.train_config, loaded.model_config) == ({"steps": 9}, {"d_model": 16})
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, share):
    """Catches half a file taken for a checkpoint, wherever it was cut."""
    save_checkpoint(path, make_checkpoint())
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read: truncated, damaged .* resume from another"):
        load_checkpoint(path)


def test_foreign_files_are_refused(path):
    """Catches another program's weights taken for a run, and code executed while a file is read."""
    torch.save({"model": tiny_model().state_dict()}, path)
    with pytest.raises(CheckpointError, match="was not written by save_checkpoint"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="was not written by save_checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"a picture")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(_Malicious(path.with_name("executed")), protocol=2))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    torch.save({"format": _Malicious(path.with_name("executed"))}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    assert not path.with_name("executed").exists()
    path.unlink()
    with pytest.raises(CheckpointError, match="is not there"):
        load_checkpoint(path)


class _Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("version", [1, 3, None])
def test_another_format_is_refused(path, version):
    """Catches a library that reads a newer or a former file and misses half of it."""
    torch.save({"format": "llmbook checkpoint", "version": version}, path)
    with pytest.raises(CheckpointError, match=f"format version {version}, this llmbook reads 2"):
        load_checkpoint(path)


def test_another_model_is_refused_and_left_alone():
    """Catches weights half loaded before the first one that does not fit is met."""
    model = tiny_model(seed=5)
    with pytest.raises(CheckpointError, match=r"another model: .* has shape \(16, 32\), here \(16, 16\)"):
        restore_model(
            model, {**model.state_dict(), "backbone.blocks.0.attention.o_proj.weight": torch.zeros(16, 32)} | {}
        )
    with pytest.raises(CheckpointError, match="is missing"):
        restore_model(model, tiny_model(n_layers=1, bias=False).state_dict())
    with pytest.raises(CheckpointError, match=r"blocks\.1.* is unknown here"):
        restore_model(model, tiny_model(n_layers=2).state_dict())
    assert same_parameters(model, tiny_model(seed=5))


def test_a_crash_while_writing_keeps_the_old_checkpoint(path, monkeypatch):
    """Catches a file written in place: the only checkpoint would be the one destroyed."""
    save_checkpoint(path, make_checkpoint(step=3))

    def full_disk(state, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match=r"could not write .*last\.pt.*No space left.*untouched"):
        save_checkpoint(path, make_checkpoint(step=4))
    assert load_checkpoint(path).step == 3
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.skipif(os.name == "nt", reason="who is dead is not asked on Windows, so nothing is swept")
def test_what_the_dead_have_left_is_swept_away(path):
    """Catches half a file of every crash kept for ever, and a file taken from a process that is still writing it."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = os.getppid()
    names = [f".last.pt.{dead.pid}.tmp", f".best.pt.{dead.pid}.tmp", f".last.pt.{living}.tmp", ".last.pt.mine.tmp"]
    for name in [*names, f".log.jsonl.{dead.pid}.tmp"]:
        path.with_name(name).write_bytes(b"half")
    save_checkpoint(path, make_checkpoint())
    left = [file.name for file in path.parent.iterdir()]
    assert sorted(left) == sorted(["last.pt", *names[2:], f".log.jsonl.{dead.pid}.tmp"])


def test_what_could_not_be_read_back_is_not_written(path):
    """Catches a state that pickles today and is refused by weights_only on the day it is needed."""
    with pytest.raises(CheckpointError, match=r"checkpoint\['data'\]\['order'\]\[1\] is a numpy\.int64"):
        save_checkpoint(path, make_checkpoint(data={"order": [1, np.int64(3)]}))
    assert not path.exists()


def test_random_states_survive_the_file(path):
    """Catches a generator that is not saved: torch alone is not enough, data may be shuffled by numpy or random."""
    import random

    np.random.seed(4)
    np.random.standard_normal()  # leaves a second normal number cached in the state
    save_checkpoint(path, make_checkpoint())

    def draw():
        return random.random(), float(np.random.standard_normal()), float(np.random.rand()), torch.rand(3).tolist()

    first = draw()
    assert draw() != first
    set_rng_state(load_checkpoint(path).rng)
    assert draw() == first
    with preserved_rng():
        second = draw()
    assert draw() == second != first
