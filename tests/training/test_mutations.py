"""Classic mistakes of training, made on purpose: for each, a named test of this folder must notice.

Most of them let the loss fall all the same, so that no curve shows them.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llmbook.training import Loss, causal_lm_loss, optim, parallel, state
from llmbook.training.checkpoint import restore_model
from llmbook.training.objectives import causal
from tests.mutations import must_be_noticed
from tests.training import test_evaluate, test_loop, test_objectives, test_optim, test_step
from tests.training.helpers import tiny_model, tiny_trainer

real = dict(
    train_step=test_step.train_step,
    shifted=causal.shifted,
    put_back=state.RunState.load_state_dict,
    read=parallel.Parallel.read,
    schedule=optim.cosine_schedule,
)


def mean_of_means(model, micro_batches, *, objective, **rest):
    """Every micro-batch weighs the same, however many targets it has."""
    n_targets = [int(objective(model, batch).n_targets) for batch in micro_batches]

    def of_this_batch(model, batch):
        loss = objective(model, batch)
        return Loss(loss.total / loss.n_targets * sum(n_targets) / len(n_targets), loss.n_targets)

    return real["train_step"](model, micro_batches, objective=of_this_batch, **rest)


def gradient_of_the_sum(model, micro_batches, *, objective, **rest):
    n_targets = sum(int(objective(model, batch).n_targets) for batch in micro_batches)

    def times_n(model, batch):
        loss = objective(model, batch)
        return Loss(loss.total * n_targets, loss.n_targets)

    return real["train_step"](model, micro_batches, objective=times_n, **rest)


def norm_of_one_tensor(grads):
    return torch.stack([grad.norm() for grad in grads]).amax()


def not_shifted(batch, ids_name, mask_name):
    inputs, mask, _ = real["shifted"](batch, ids_name, mask_name)
    return inputs, mask, batch.get("labels", batch[ids_name])[:, :-1]


def shifted_twice(batch, ids_name, mask_name):
    inputs, mask, targets = real["shifted"](batch, ids_name, mask_name)
    return inputs[:, :-1], mask, targets[:, 1:]


def forgets_the_data(run, saved):
    position = run.batches.state_dict()
    real["put_back"](run, saved)
    run.batches.load_state_dict(position)


def forgets_the_moments(engine, path, run, model, optimizer):
    restore_model(model, run.model, source=path)


def forgets_the_step(engine, path):
    return replace(real["read"](engine, path), step=0)


def looks_in_training_mode(model, batches, *, objective, **rest):
    losses = [objective(model.train(), batch) for batch in batches]
    return float(sum(loss.total for loss in losses).detach() / sum(loss.n_targets for loss in losses))


def mean_of_batch_means(model, batches):
    losses = [causal_lm_loss(model.eval(), batch) for batch in batches]
    means = [(loss.total / loss.n_targets).item() for loss in losses]
    return SimpleNamespace(loss=sum(means) / len(means), n_tokens=int(sum(loss.n_targets for loss in losses)))


def all_decay(params, *, weight_decay):
    return [{"params": params, "weight_decay": weight_decay}, {"params": [], "weight_decay": 0.0}]


def every_checkpoint(folder: Path) -> None:
    """The reference makes the same mistake: what shows is the difference between going on and never stopping."""
    whole = tiny_trainer()
    whole.run()
    test_loop.test_every_checkpoint_leads_to_the_same_end(folder, whole)


def accumulation(folder: Path) -> None:
    test_step.test_accumulation_gives_the_gradient_of_the_whole_batch(test_step.uneven_batch(), 2)


MUTATIONS: dict[str, tuple[object, str, object, Callable[[Path], None]]] = {
    "mean of means over micro-batches": (test_step, "train_step", mean_of_means, accumulation),
    "gradient of the sum": (
        test_step, "train_step", gradient_of_the_sum,
        lambda _: test_step.test_the_step_follows_the_gradient_of_the_mean(test_step.uneven_batch()),
    ),
    "gradients left from the step before": (
        torch.optim.SGD, "zero_grad", lambda self: None,
        lambda _: test_step.test_gradients_do_not_leak_into_the_next_step(test_step.uneven_batch()),
    ),
    "clipped by the norm of one tensor": (
        nn.utils, "get_total_norm", norm_of_one_tensor,
        lambda _: test_step.test_clipping_limits_the_norm_and_keeps_the_direction(test_step.uneven_batch()),
    ),
    "labels not shifted": (
        causal, "shifted", not_shifted, lambda _: test_objectives.test_the_causal_loss_is_transformers(),
    ),
    "labels shifted twice": (
        causal, "shifted", shifted_twice, lambda _: test_objectives.test_the_causal_loss_is_transformers(),
    ),
    "random state not put back": (state, "set_rng_state", lambda state: None, every_checkpoint),
    "position in the data not put back": (state.RunState, "load_state_dict", forgets_the_data, every_checkpoint),
    "moments not put back": (parallel.Parallel, "restore", forgets_the_moments, every_checkpoint),
    "schedule begun again": (parallel.Parallel, "read", forgets_the_step, every_checkpoint),
    "dropout on in validation": (
        test_evaluate, "mean_loss", looks_in_training_mode,
        lambda _: test_evaluate.test_mean_loss_agrees_and_the_mode_comes_back(tiny_model()),
    ),
    "norms and biases decay": (
        optim, "decay_groups", all_decay,
        lambda _: test_optim.test_matrices_decay_and_norms_and_biases_do_not(),
    ),
    "mean of batch means in evaluation": (
        test_evaluate, "evaluate", mean_of_batch_means,
        lambda _: test_evaluate.test_every_token_is_predicted_once_and_weighs_the_same(tiny_model()),
    ),
    "peak of the schedule a step late": (
        test_optim, "cosine_schedule", lambda step, **dials: real["schedule"](step - 1, **dials),
        lambda _: test_optim.test_schedule_values(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch, tmp_path_factory):
    """A test that would pass whatever the library computes."""
    owner, attribute, mistake, test = MUTATIONS[name]
    must_be_noticed(owner, attribute, mistake, lambda: test(tmp_path_factory.mktemp("run")), monkeypatch)
