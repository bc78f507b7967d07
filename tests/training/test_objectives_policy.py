"""Reinforcement learning through the same loop: batches that the model writes itself."""

import pytest
import torch

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.training import TrainConfig, Trainer, choose_runtime, policy_gradient_loss
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
