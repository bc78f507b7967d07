"""Reinforcement learning through the same loop: batches that the model writes itself."""

import math

import pytest
import torch

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.training import (
    GroupRollouts,
    TrainConfig,
    Trainer,
    choose_runtime,
    group_advantages,
    policy_gradient_loss,
)
from llmbook.training.objectives import causal_lm_loss
from tests.model.helpers import random_ids, small_lm

WANTED = 3


class Rollouts:
    """Endless batches: texts of three tokens behind token 0, sampled from the model, worth 1 for each ``WANTED``."""

    def __init__(self, model, n_texts=16):
        self.model, self.n_texts = model, n_texts
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self):
        return self

    @torch.no_grad()
    def __next__(self):
        ids = torch.zeros(self.n_texts, 1, dtype=torch.long)
        for _ in range(3):
            p = self.model(ids).logits[:, -1].softmax(-1)
            ids = torch.cat([ids, torch.multinomial(p, 1, generator=self.generator)], dim=1)
        reward = (ids == WANTED).sum(1).float()
        return {"input_ids": ids, "advantages": reward - reward.mean()}

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


def trainer(steps, folder=None):
    torch.manual_seed(0)
    sizes = dict(vocab_size=8, max_seq_len=8, d_model=16, n_layers=1, n_heads=2, init_std=0.1)
    model = DecoderLM(TransformerConfig.gpt2(**sizes))
    config = TrainConfig(steps=steps, lr=0.02, warmup_steps=0, log_every=1, checkpoint_every=10)
    runtime = choose_runtime("cpu", dtype="float32")
    return Trainer(model, Rollouts(model), config, objective=policy_gradient_loss, folder=folder, runtime=runtime)


def share(model):
    return model(torch.zeros(1, 1, dtype=torch.long)).logits[0, -1].softmax(-1)[WANTED].item()


def test_what_is_rewarded_becomes_likely():
    """Catches a sign that punishes what it should reward, and a loop that needs a text written beforehand."""
    run = trainer(60)
    assert share(run.model) < 0.3
    run.run()
    assert share(run.model) > 0.9


def test_a_run_that_samples_resumes_bit_for_bit(tmp_path):
    """Catches rollouts of a resumed run that are drawn otherwise, which no stored text would show."""
    whole = trainer(30)
    whole.run()
    first = trainer(30, tmp_path)
    first.callbacks = (StopAt(13),)
    first.run()
    assert first.step == 13
    second = trainer(30, tmp_path)
    second.run(resume=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


class StopAt:
    """A callback that ends the run."""

    def __init__(self, step):
        self.step = step

    def on_log(self, run, step):
        if step >= self.step:
            run.stop()

    def on_start(self, run): ...
    def on_evaluate(self, run, step): ...
    def on_end(self, run): ...


def test_advantages_weigh_whole_texts():
    """Catches advantages along the wrong axis; with 1 for each text it is the causal loss, gradients too."""
    model, ids = small_lm(), random_ids(3, 6)
    ones = policy_gradient_loss(model, {"input_ids": ids, "advantages": torch.ones(3)})
    causal = causal_lm_loss(model, {"input_ids": ids})
    torch.testing.assert_close(ones.total, causal.total)
    assert ones.n_targets == causal.n_targets
    weights = torch.tensor([2.0, 0.0, -1.0])
    found = policy_gradient_loss(model, {"input_ids": ids, "advantages": weights}).total
    rows = torch.stack([causal_lm_loss(model, {"input_ids": row[None]}).total for row in ids])
    torch.testing.assert_close(found, (weights * rows).sum())


@pytest.mark.parametrize(
    ("more", "message"),
    [({}, "no advantages, which"), ({"advantages": torch.ones(3, 1)}, r"shape \(3, 1\) for 3 texts")],
)
def test_what_is_missing_is_named(more, message):
    """Catches an advantage for every token that would be broadcast over the texts."""
    with pytest.raises(ValueError, match=message):
        policy_gradient_loss(small_lm(), {"input_ids": random_ids(3, 6), **more})


def test_advantages_compare_within_a_group():
    """Catches a mean over all answers, a spread with the wrong divisor, and a group without spread that is divided by
    nothing."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    plain = group_advantages(rewards, scale=False)
    torch.testing.assert_close(plain[0], torch.tensor([0.5, -0.5, -0.5, 0.5]))
    torch.testing.assert_close(plain[1], torch.tensor([-0.25, -0.25, -0.25, 0.75]))
    scaled = group_advantages(rewards, eps=1e-12)
    torch.testing.assert_close(scaled[1], (rewards[1] - 0.25) / math.sqrt((3 * 0.25**2 + 0.75**2) / 3))
    assert not group_advantages(rewards)[2].any()
    with pytest.raises(ValueError, match=r"shape \(3, 1\)"):
        group_advantages(rewards[:, :1])


def written(model, prompts, generator):
    p = model(prompts).logits[:, -1].softmax(-1)
    return torch.cat([prompts, torch.multinomial(p, 1, generator=generator)], dim=1)


def rollouts(model, **options):
    def judge(texts):
        return (texts[:, -1] == WANTED).float()

    prompts = torch.tensor([[1, 2], [3, 4], [5, 6]])
    return GroupRollouts(model, prompts, write=written, judge=judge, n_prompts=2, group_size=4, **options)


def test_rollouts_hold_groups_of_one_prompt():
    """Catches groups that mix prompts, advantages that belong to other rows, and prompts that are learned."""
    model = small_lm()
    source = rollouts(model, scale=False)
    for _ in range(20):
        batch = next(source)
        groups = batch["input_ids"].view(2, 4, 3)
        assert (groups[:, :, :2] == groups[:, :1, :2]).all()
        right = (groups[:, :, 2] == WANTED).float()
        torch.testing.assert_close(batch["advantages"].view(2, 4), right - right.mean(1, keepdim=True))
        assert (batch["labels"][:, :2] == -100).all()
        assert torch.equal(batch["labels"][:, 2], batch["input_ids"][:, 2])
        assert source.rewards[-1] == pytest.approx(right.mean().item())
        assert source.dead[-1] == (right.mean(1) % 1 == 0).float().mean().item()
    assert 0 < sum(source.rewards) < 20


def test_rollouts_go_on_where_they_were():
    """Catches a resumed run that draws other prompts, or other texts."""
    model = small_lm()
    first, second = rollouts(model), rollouts(model, seed=9)
    next(first)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        one, other = next(first), next(second)
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert first.rewards == second.rewards


def test_the_estimate_is_the_gradient_of_the_reward():
    """Catches a sign, a wrong mean and a gradient through the rewards: on average, a group of G answers gives
    (G - 1) / G of the gradient of the probability of a right one."""
    model = small_lm()
    prompts = torch.tensor([[1, 2]])
    parameters = [p for p in model.parameters() if p.requires_grad]
    right = model(prompts).logits[0, -1].softmax(-1)[WANTED]
    exact = torch.autograd.grad(right, parameters, allow_unused=True)

    def judge(texts):
        return (texts[:, -1] == WANTED).float()

    source = GroupRollouts(model, prompts, write=written, judge=judge, n_prompts=4000, group_size=4, scale=False)
    loss = policy_gradient_loss(model, next(source))
    found = torch.autograd.grad(loss.total / loss.n_targets, parameters, allow_unused=True)
    a = torch.cat([g.flatten() for g in exact if g is not None])
    b = torch.cat([-g.flatten() for g in found if g is not None])
    assert torch.cosine_similarity(a, b, dim=0) > 0.95
    assert (a @ b / (a @ a)).item() == pytest.approx(3 / 4, rel=0.1)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (torch.empty(0, 2, dtype=torch.long), {}, "pool of prompts is empty"),
        (torch.ones(1, 2, dtype=torch.long), {"group_size": 1}, "group_size=1"),
        (torch.ones(1, 2, dtype=torch.long), {"n_prompts": 0}, "n_prompts=0"),
    ],
)
def test_rollouts_that_cannot_compare_are_refused(prompts, options, message):
    """Catches groups of one, whose advantages are all 0, and an empty pool that fails deep inside."""
    with pytest.raises(ValueError, match=message):
        GroupRollouts(small_lm(), prompts, write=written, judge=len, **options)
