"""Classic mistakes of adapting a model, made on purpose: for each, a named test of this folder must notice.

As in ``tests/model/test_mutations.py``, each case patches one mistake into the library, runs the test that is meant
to catch it, and demands that the test fails.
"""

from collections.abc import Callable

import pytest
from torch import nn

from llmbook.adaptation import DPOLoss, LoRALinear, Rewards, preferences
from tests.adaptation import test_lora, test_preferences
from tests.mutations import must_be_noticed

real = dict(
    layer=LoRALinear.__init__,
    merge=LoRALinear.merge,
    rewards=DPOLoss.rewards,
    causal_nll=preferences.causal_nll,
)


def scaled_by(factor: Callable[[float, int], float]):
    """A layer whose correction counts ``factor`` of α and r."""

    def init(layer, base, *, r, lora_alpha, **keywords):
        real["layer"](layer, base, r=r, lora_alpha=lora_alpha, **keywords)
        layer.scaling = factor(lora_alpha, r)

    return init


def b_not_zero(layer, base, **keywords):
    real["layer"](layer, base, **keywords)
    nn.init.normal_(layer.lora_B)


def merged_without_scale(layer):
    scaling, layer.scaling = layer.scaling, 1.0
    real["merge"](layer)
    layer.scaling = scaling


def rewards_times(factor: Callable[[DPOLoss], float]):
    """Every reward of DPO times ``factor``."""

    def rewards(objective, model, batch):
        return Rewards(*(factor(objective) * reward for reward in real["rewards"](objective, model, batch)))

    return rewards


def mean_over_tokens(model, batch):
    nats, are_targets = real["causal_nll"](model, batch)
    return nats / are_targets.sum(1, keepdim=True), are_targets


def dpo() -> None:
    test_preferences.test_dpo_by_its_formula(0.0)


MUTATIONS: dict[str, tuple[object, str, object, Callable[[], None]]] = {
    "α/r dropped": (
        LoRALinear, "__init__", scaled_by(lambda alpha, r: 1.0), test_lora.test_the_formula_in_float64,
    ),
    "α in place of α/r": (
        LoRALinear, "__init__", scaled_by(lambda alpha, r: alpha), test_lora.test_the_formula_in_float64,
    ),
    "r/α in place of α/r": (
        LoRALinear, "__init__", scaled_by(lambda alpha, r: r / alpha), test_lora.test_the_formula_in_float64,
    ),
    "α/r dropped in merging": (
        LoRALinear, "merge", merged_without_scale, test_lora.test_merge_and_back,
    ),
    "B does not start at zero": (
        LoRALinear, "__init__", b_not_zero, lambda: test_lora.test_the_start_changes_nothing({}),
    ),
    "the rejected answer preferred": (
        Rewards, "margin", property(lambda rewards: rewards.rejected - rewards.chosen), dpo,
    ),
    "policy and reference exchanged": (
        DPOLoss, "rewards", rewards_times(lambda objective: -1.0), dpo,
    ),
    "β forgotten": (
        DPOLoss, "rewards", rewards_times(lambda objective: 1 / objective.beta), dpo,
    ),
    "β applied twice": (
        DPOLoss, "rewards", rewards_times(lambda objective: objective.beta), dpo,
    ),
    "a mean over an answer's tokens in place of their sum": (
        preferences, "causal_nll", mean_over_tokens,
        test_preferences.test_log_probabilities_are_sums_over_the_answer,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    """A test that would pass whatever the library computes."""
    must_be_noticed(*MUTATIONS[name], monkeypatch)
