"""DPO and the reward model against their formulas in float64."""

import copy
import math

import pytest
import torch

from llmbook.adaptation import (
    DPOLoss,
    Example,
    Preference,
    Rewards,
    add_lora,
    lora_state_dict,
    merge,
    model_rewards,
    pad_preferences,
    response_log_probs,
    reward_model_loss,
)
from llmbook.model import SequenceClassifier
from llmbook.training import TrainConfig, Trainer, choose_runtime
from tests.adaptation.helpers import LLAMA, lm, with_gradient
from tests.model.helpers import random_ids, shake


def example(ids: list[int], n_question: int) -> Example:
    return Example(input_ids=ids, labels=[-100] * n_question + ids[n_question:])


def pairs() -> list[Preference]:
    """Answers of different lengths, so that padding and sums over tokens matter."""
    ids = random_ids(4, 9).tolist()
    return [
        Preference(chosen=example(ids[0], 4), rejected=example(ids[0][:4] + ids[1][:2], 4)),
        Preference(chosen=example(ids[2][:5], 3), rejected=example(ids[2][:3] + ids[3][:5], 3)),
    ]


BATCH = pad_preferences(pairs())


def log_prob(model, example: Example) -> float:
    """The formula, on the bare sequence in float64."""
    with torch.no_grad():
        log_p = copy.deepcopy(model).double()(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
    return sum(log_p[t - 1, label].item() for t, label in enumerate(example.labels) if label != -100)


def other_model(model):
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in moved.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return moved


def formula(policy, reference, *, beta, smoothing=0.0) -> tuple[float, list[float]]:
    margins = [
        beta
        * (
            (log_prob(policy, pair.chosen) - log_prob(reference, pair.chosen))
            - (log_prob(policy, pair.rejected) - log_prob(reference, pair.rejected))
        )
        for pair in pairs()
    ]
    loss = sum(
        (1 - smoothing) * math.log1p(math.exp(-margin)) + smoothing * math.log1p(math.exp(margin)) for margin in margins
    )
    return loss, margins


def test_log_probabilities_are_sums_over_the_answer():
    """Catches a mean over tokens, the question counted in, padding counted in, labels shifted by one."""
    model = lm(**LLAMA)
    for side in ("chosen", "rejected"):
        expected = torch.tensor([log_prob(model, getattr(pair, side)) for pair in pairs()])
        torch.testing.assert_close(response_log_probs(model, BATCH, side).detach(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo_by_its_formula(smoothing):
    """Catches the sign of the margin, policy and reference exchanged, β forgotten or applied twice."""
    reference = lm(**LLAMA)
    policy = other_model(reference)
    objective = DPOLoss(beta=0.7, reference=reference, label_smoothing=smoothing)
    loss = objective(policy, BATCH)
    expected, margins = formula(policy, reference, beta=0.7, smoothing=smoothing)
    assert loss.total.item() == pytest.approx(expected, abs=1e-4)
    assert int(loss.n_targets) == 2
    rewards = objective.rewards(policy, BATCH)
    torch.testing.assert_close(rewards.margin.detach(), torch.tensor(margins), atol=1e-4, rtol=0)
    chosen = [0.7 * (log_prob(policy, pair.chosen) - log_prob(reference, pair.chosen)) for pair in pairs()]
    torch.testing.assert_close(rewards.chosen.detach(), torch.tensor(chosen), atol=1e-4, rtol=0)


def test_at_the_reference_the_loss_is_log_2():
    """Catches a reference read otherwise than the policy: with dropout, without the mask, in another order."""
    policy = lm(dropout=0.3)
    reference = copy.deepcopy(policy).train()
    loss = DPOLoss(reference=reference, beta=3.0)(policy, BATCH)
    assert loss.total.item() == 2 * torch.tensor(2.0).log().item()
    assert reference.training


def test_the_first_step_is_half_beta_towards_the_chosen():
    """Catches a gradient that does not shrink with β: here it is −β/2 ∇(log π(chosen) − log π(rejected))."""
    reference = lm()
    gradients = {}
    for beta in (1e-3, 0.5):
        policy = copy.deepcopy(reference)
        DPOLoss(reference=reference, beta=beta)(policy, BATCH).total.backward()
        gradients[beta] = torch.cat([p.grad.flatten() for p in policy.parameters()])
    policy = copy.deepcopy(reference)
    difference = response_log_probs(policy, BATCH, "chosen") - response_log_probs(policy, BATCH, "rejected")
    (-difference.sum() / 2).backward()
    direction = torch.cat([p.grad.flatten() for p in policy.parameters()])
    for beta, gradient in gradients.items():
        torch.testing.assert_close(gradient / beta, direction, atol=1e-4, rtol=1e-4)


def test_the_reference_does_not_learn():
    """Catches gradients that flow into the reference and push both models apart."""
    reference = lm()
    policy = other_model(reference)
    DPOLoss(reference=reference)(policy, BATCH).total.backward()
    assert with_gradient(reference) == set()
    assert with_gradient(policy)


def test_the_model_without_its_lora_is_a_reference():
    """Catches a reference that carries the correction as well (the loss then never moves), or loses it for good."""
    policy, plain = lm(), lm()
    add_lora(policy, r=2, lora_dropout=0.4)
    objective = DPOLoss(beta=0.7)
    policy.train()
    assert objective(policy.eval(), BATCH).total.item() == 2 * torch.tensor(2.0).log().item()
    for tensor in lora_state_dict(policy).values():
        tensor.normal_(0, 0.3)
    loss = objective(policy, BATCH)
    expected, _ = formula(policy, plain, beta=0.7)
    assert loss.total.item() == pytest.approx(expected, abs=1e-4)
    loss.total.backward()
    assert with_gradient(policy) == set(f"{name}" for name in lora_state_dict(policy))
    policy.train()
    objective(policy, BATCH)
    assert policy.training
    merge(policy)
    with pytest.raises(ValueError, match="unmerge"):
        objective(policy, BATCH)
    with pytest.raises(ValueError, match="has no LoRA"):
        objective(plain, BATCH)


def test_accuracy_counts_a_tie_as_half():
    """Catches an untrained model, whose margins are all 0, reported as always or never right."""
    rewards = Rewards(torch.tensor([1.0, 2.0, 0.5, -1.0]), torch.tensor([0.0, 2.0, 1.0, -3.0]))
    assert rewards.margin.tolist() == [1.0, 0.0, -0.5, 2.0]
    assert rewards.accuracy == 0.625


def test_the_trainer_takes_it(tmp_path):
    """Catches an objective that does not fit the loop: after some steps the chosen answers must be ahead."""
    model = lm()
    add_lora(model, r=4, target_modules=["q_proj", "v_proj", "up_proj"])
    objective = DPOLoss(beta=0.5)
    batches = iter(lambda: BATCH, None)
    config = TrainConfig(steps=15, lr=2e-2, weight_decay=0.0)
    history = Trainer(model, batches, config, objective=objective, runtime=choose_runtime("cpu")).run()
    assert history.train_loss[0] > history.train_loss[-1]
    rewards = objective.rewards(model.eval(), BATCH)
    assert rewards.accuracy == 1.0
    assert rewards.margin.min() > 0.5


def reward_model():
    return shake(SequenceClassifier(lm(**LLAMA).backbone, n_labels=1, pooling="last", pooler_layer=False))


def test_the_reward_model_by_its_formula():
    """Catches a reward read from padding, the sign of the margin, a mean in place of the sum."""
    model = reward_model()
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        margins = []
        for pair in pairs():
            chosen, rejected = (
                exact.classifier(exact.encoder(torch.tensor([side.input_ids])).last_hidden_state[:, -1]).item()
                for side in (pair.chosen, pair.rejected)
            )
            margins.append(chosen - rejected)
    loss = reward_model_loss(model, BATCH)
    assert loss.total.item() == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins), abs=1e-5)
    assert int(loss.n_targets) == 2
    torch.testing.assert_close(model_rewards(model, BATCH).margin.detach(), torch.tensor(margins), atol=1e-5, rtol=0)
    loss.total.backward()
    assert "classifier.weight" in with_gradient(model)


def test_bad_arguments_are_named():
    """Catches dials without meaning, and a classifier or language model taken for a reward model."""
    for arguments, message in (
        ({"beta": 0}, "beta=0"),
        ({"label_smoothing": 0.5}, "label_smoothing=0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            DPOLoss(**arguments)
    classifier = SequenceClassifier(lm().backbone, n_labels=2, pooling="last", pooler_layer=False)
    for model, shape in ((classifier, r"\(2, 2\)"), (lm(), r"\(2, 9, 31\)")):
        with pytest.raises(ValueError, match=shape):
            reward_model_loss(model, BATCH)
