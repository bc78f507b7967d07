"""``python -m llmbook.training RECIPE.json``: what it refuses, what it leaves behind, and two processes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmbook.text import ByteTokenizer, CharTokenizer
from llmbook.training import TrainConfig
from llmbook.training.__main__ import main
from llmbook.training.checkpoint import load_checkpoint
from llmbook.training.distributed import load_trained
from llmbook.training.recipe import ENTRIES, RecipeError, parse_recipe, read_recipe

TEXT = "to be, or not to be, that is the question: " * 30


@pytest.fixture
def corpus(tmp_path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


@pytest.fixture
def recipe(tmp_path, corpus) -> dict:
    return {
        "model": {"preset": "gpt2", "d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 8},
        "corpus": corpus,
        "tokenizer": "char",
        "train": {"steps": 4, "lr": 0.01, "eps": 1e-3, "log_every": 1},
        "data": {"batch_size": 4, "seq_len": 8},
        "folder": str(tmp_path / "run"),
    }


def write(tmp_path: Path, recipe: dict, name: str = "recipe.json") -> str:
    path = tmp_path / name
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return str(path)


def losses(folder) -> list[float]:
    lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["train_loss"] for record in map(json.loads, lines) if "train_loss" in record]


BAD = [
    ({"modle": {}}, "there is no entry 'modle'; did you mean 'model'? Possible: model, corpus"),
    ({"train": {"steps": 4, "learning_rate": 1}}, "there is no entry 'train.learning_rate'"),
    ({"train": {"lr": 1e-3}}, "'train.steps' is missing"),
    ({"train": {"steps": "4"}}, "train.steps='4': input should be a valid integer"),
    ({"train": {"steps": True}}, "train.steps=True: input should be a valid integer"),
    ({"train": {"steps": 4, "lr": -1}}, "train: lr=-1: must be positive"),
    ({"model": {"preset": "gpt3"}}, "model.preset='gpt3': input should be 'gpt2', 'llama' or 'modern'"),
    ({"model": {"d_modle": 16}}, "there is no entry 'model.d_modle'; did you mean 'd_model'?"),
    ({"model": {"bias": 1}}, "model.bias=1: input should be a valid boolean"),
    (
        {"model": {"rope_scaling": {"kind": "yarn", "facter": 4.0}}},
        "no entry 'model.rope_scaling.facter'; did you mean",
    ),
    ({"model": {"rope_scaling": {"kind": "yarn", "factor": "4"}}}, "model.rope_scaling.factor='4': input should be a"),
    ({"train": [4]}, r"train=\[4\]: fields of TrainConfig"),
    ({"data": {"batch_size": 4}}, "'data.seq_len' is missing"),
    ({"data": {"batch_size": 4, "seq_len": 8, "valid": 1.5}}, "data: valid=1.5: must lie between 0 and 1"),
    ({"corpus": "shakespear-plays"}, "is neither a file nor a corpus of the book; did you mean 'shakespeare-plays'?"),
    ({"tokenizer": {"bpe": "512"}}, 'tokenizer=.*"byte", {"bpe": VOCAB_SIZE}'),
    ({"tokenizer": "nowhere.json"}, "tokenizer='nowhere.json'"),
    ({"parallel": "dp"}, 'parallel=\'dp\': "none" .one process.*, "ddp"'),
    ({"seed": 1.5}, "seed=1.5: of weights, dropout and data"),
    ({"folder": None}, "folder=None: where checkpoints"),
]


@pytest.mark.parametrize(
    ("change", "message"), BAD, ids=lambda value: next(iter(value)) if isinstance(value, dict) else None
)
def test_a_bad_entry_is_refused_by_name(recipe, change, message):
    """Catches misspelt dials that are ignored and values that fail hours later, without their name."""
    with pytest.raises(RecipeError, match=message.replace("?", r"\?").replace("{", r"\{")):
        parse_recipe({**recipe, **change})


@pytest.mark.parametrize("name", ["model", "corpus", "tokenizer", "train", "data", "folder"])
def test_a_missing_entry_is_asked_for(recipe, name):
    """Catches a default chosen silently for what only the reader can know."""
    del recipe[name]
    with pytest.raises(RecipeError, match=f"'{name}' is missing: "):
        parse_recipe(recipe)


def test_files_that_are_no_recipes(tmp_path):
    """Catches tracebacks in place of reasons, and a file's name lost on the way."""
    with pytest.raises(RecipeError, match=r"none.json cannot be read: No such file"):
        read_recipe(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{'model'", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"broken.json is not JSON"):
        read_recipe(broken)
    broken.write_text("[]", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"broken.json: a recipe is an object with the entries model"):
        read_recipe(broken)


def test_the_model_must_fit_the_tokenizer_and_the_windows(recipe):
    """Catches ids beyond the table and windows beyond the positions, which fail in the middle of a step."""
    assert parse_recipe(recipe).model_config(50).vocab_size == 50
    recipe["model"]["vocab_size"] = 64
    assert parse_recipe(recipe).model_config(50).vocab_size == 64
    with pytest.raises(RecipeError, match=r"model.vocab_size=64 is smaller than the tokenizer's 65"):
        parse_recipe(recipe).model_config(65)
    recipe["data"]["seq_len"] = 9
    with pytest.raises(RecipeError, match=r"data.seq_len=9 is longer than model.max_seq_len=8"):
        parse_recipe(recipe).model_config(50)
    recipe["model"] = {"d_model": 15, "n_heads": 2}
    with pytest.raises(RecipeError, match="model: d_model=15 is not divisible by n_heads=2"):
        parse_recipe(recipe).model_config(50)


def test_the_example_is_a_recipe():
    """Catches an example that has fallen behind."""
    example = read_recipe(Path(__file__).parents[3] / "examples" / "shakespeare.json")
    assert isinstance(example.train, TrainConfig)
    assert example.model_config(80).positions == "rope"


def test_help_names_every_entry_and_dial(capsys):
    """Catches an entry added without a word about it."""
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert all(name in text for name in [*ENTRIES, *TrainConfig(steps=1).to_dict(), "torchrun", "--resume"])


def test_one_process_from_recipe_to_model(tmp_path, recipe, capsys):
    """Catches a folder from which the model cannot be used or the run not be told, and a run written over another."""
    path = write(tmp_path, recipe)
    assert main([path]) == 0
    out = capsys.readouterr().out
    for said in ("device     cpu, float32:", "processes  1", "parameters", "tokens/s", "left", "validation loss"):
        assert said in out
    folder = Path(recipe["folder"])
    names = [file.name for file in sorted(folder.iterdir())]
    assert names == ["best.pt", "last.pt", "log.jsonl", "recipe.json", "tokenizer.json", "train.npy", "valid.npy"]
    assert all(name in out for name in names)
    assert json.loads((folder / "recipe.json").read_text()) == recipe
    assert load_trained(folder / "last.pt").config.vocab_size == CharTokenizer.train(TEXT).vocab_size
    assert len(losses(folder)) == 4

    assert main([path]) == 1
    assert "holds an earlier run: continue it with --resume" in capsys.readouterr().err
    other = write(tmp_path, {**recipe, "tokenizer": "byte"}, "other.json")
    assert main([other, "--resume"]) == 1
    assert "was made with tokenizer='char', not 'byte'" in capsys.readouterr().err
    assert json.loads((folder / "recipe.json").read_text()) == recipe


@pytest.mark.parametrize("replacement", [True, False])
def test_windows_are_drawn_as_the_recipe_says(tmp_path, recipe, replacement):
    """Catches an entry that is checked and then ignored."""
    assert main([write(tmp_path, {**recipe, "data": recipe["data"] | {"replacement": replacement}})]) == 0
    assert load_checkpoint(Path(recipe["folder"]) / "last.pt").data["replacement"] is replacement


def test_resume_goes_on_where_the_run_was_interrupted(tmp_path, recipe, capsys, monkeypatch):
    """Catches a resumed run that starts again, or whose losses are not those of a run that never stopped."""
    assert main([write(tmp_path, recipe)]) == 0
    whole = losses(recipe["folder"])
    again = {**recipe, "folder": str(tmp_path / "again"), "train": recipe["train"] | {"checkpoint_every": 2}}
    path = write(tmp_path, again, "again.json")
    from llmbook.training.loop import Trainer

    advance = Trainer._advance
    monkeypatch.setattr(Trainer, "_advance", lambda self: (advance(self), self.step == 2 and self.state.stop()))
    assert main([path, "--resume"]) == 130
    assert "stopped at step 2 of 4: go on with --resume" in capsys.readouterr().out
    monkeypatch.undo()
    assert main([path, "--resume"]) == 0
    assert losses(again["folder"]) == whole


def test_saved_tokenizers_and_byte_pairs(tmp_path, recipe, capsys):
    """Catches a tokenizer that is trained anew although one was given, and one that is not the one asked for."""
    ByteTokenizer().save(tmp_path / "tokenizer.json")
    for number, (tokenizer, size) in enumerate([(str(tmp_path / "tokenizer.json"), 256), ({"bpe": 262}, 262)]):
        folder = tmp_path / str(number)
        changed = {**recipe, "tokenizer": tokenizer, "folder": str(folder), "train": {"steps": 1}}
        assert main([write(tmp_path, changed)]) == 0
        assert load_trained(folder / "last.pt").config.vocab_size == size


def test_torchrun_with_two_processes_is_the_run_of_one(tmp_path, recipe):
    """Catches ranks that read the same rows or draw other weights, files written twice, and progress printed twice."""
    alone = {**recipe, "data": {"batch_size": 8, "seq_len": 8}, "folder": str(tmp_path / "alone")}
    assert main([write(tmp_path, alone, "alone.json")]) == 0
    path = write(tmp_path, {**recipe, "parallel": "fsdp"})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "llmbook.training", path],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("processes  2, fsdp") == done.stdout.count("nats per token") == 1
    assert losses(recipe["folder"]) == pytest.approx(losses(alone["folder"]), abs=1e-6)
    one, two = (load_trained(path) for path in (tmp_path / "alone/last.pt", tmp_path / "run/last-000004.dcp"))
    torch.testing.assert_close(dict(two.state_dict()), dict(one.state_dict()), rtol=0, atol=1e-6)


def test_several_processes_need_an_engine(tmp_path, recipe, capsys, monkeypatch):
    """Catches torchrun training the same model twice into one folder."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([write(tmp_path, recipe)]) == 1
    assert "parallel='none', but torchrun has started 2 processes" in capsys.readouterr().err
