"""Settings and history travel as JSON, and settings that make no sense are refused."""

import json

import pytest

from llmbook.training import History, TrainConfig
from tests.training.helpers import tiny_trainer


def test_config_survives_json():
    """Catches a field lost on the way, and a misspelt one accepted."""
    config = TrainConfig(steps=7, lr=3e-4, clip_norm=None, eval_every=2)
    assert TrainConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="no field learning_rate"):
        TrainConfig.from_dict({"steps": 7, "learning_rate": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("lr", 0.0), ("lr", float("nan")), ("muon_lr", 0.0), ("warmup_steps", 11), ("warmup_steps", -1),
        ("min_lr_ratio", 1.5), ("weight_decay", -0.1), ("beta1", 1.0), ("beta2", -0.1), ("eps", 0.0),
        ("clip_norm", -1.0), ("accumulation_steps", 0), ("eval_every", 0), ("log_every", 0), ("checkpoint_every", -5),
        ("steps", 1.5), ("steps", True), ("steps", "3"), ("lr", None), ("lr", "1e-3"), ("eps", None),
        ("log_every", None), ("beta1", "0.9"), ("min_lr_ratio", None), ("weight_decay", "0"), ("warmup_steps", None),
    ],
)  # fmt: skip
def test_a_senseless_value_is_named(name, value):
    """Catches a run that fails an hour later, a rate that rises to its end, a None where None means nothing."""
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        TrainConfig(**{"steps": 10, name: value})


def test_an_unknown_optimizer_or_schedule_is_named():
    """Catches a misspelt name that trains with the default one."""
    with pytest.raises(ValueError, match="optimizer='moun' is not one of 'adamw', 'muon'"):
        TrainConfig(steps=10, optimizer="moun")
    with pytest.raises(ValueError, match="schedule='linear' is not one of 'cosine', 'trapezoid'"):
        TrainConfig(steps=10, schedule="linear")


def test_runs_are_compared_dial_by_dial():
    """Catches a run resumed under another optimiser, and one refused because its file is older than a dial."""
    config = TrainConfig(steps=10)
    older = {name: value for name, value in config.to_dict().items() if name not in ("optimizer", "muon_lr")}
    assert config.differences(older) == []
    assert config.differences({**older, "log_every": 99}) == []
    assert config.differences(TrainConfig(steps=10, optimizer="muon").to_dict()) == ["optimizer: muon → adamw"]
    assert TrainConfig(steps=10, optimizer="muon").differences(older) == ["optimizer: adamw → muon"]


def test_history_is_plain_json():
    """Catches tensors or numpy numbers in what is meant for a plot or a file."""
    history = tiny_trainer().run()
    text = history.to_json()
    assert History.from_json(text) == history
    assert {type(x) for entries in json.loads(text).values() for x in entries} == {int, float}
    assert {type(x) for entries in history.to_dict().values() for x in entries} == {int, float}
