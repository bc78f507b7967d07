"""Which weights decay, and which learning rate a step has."""

import itertools

import pytest
import torch

from llmbook.training import adamw, cosine_schedule, parameter_groups, trapezoid_schedule
from tests.training.helpers import tiny_model


def test_matrices_decay_and_norms_and_biases_do_not():
    """Catches decay on gains and biases, and a parameter that no group holds."""
    model = tiny_model(bias=True)
    decayed, free = parameter_groups(model, weight_decay=0.3)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("norm" not in names[id(p)] and "bias" not in names[id(p)] for p in decayed["params"])
    assert all("norm" in names[id(p)] or "bias" in names[id(p)] for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_tied_weights_appear_once_and_frozen_ones_not_at_all():
    """Catches a tied table that is moved twice a step, and frozen weights shrunk by decay."""
    model = tiny_model(tie_embeddings=True)
    table = model.lm_head.weight
    listed = [p for group in parameter_groups(model, weight_decay=0.1) for p in group["params"]]
    assert sum(p is table for p in listed) == 1
    table.requires_grad_(False)
    listed = [p for group in parameter_groups(model, weight_decay=0.1) for p in group["params"]]
    assert all(p is not table for p in listed)
    with pytest.raises(ValueError, match="DecoderLM has no trainable parameter"):
        parameter_groups(model.requires_grad_(False), weight_decay=0.1)


def test_one_step_is_adamw_by_hand():
    """Catches decay mixed into the gradient (Adam with L2) and a wrong β: the first step, from the paper's formula."""
    model = torch.nn.Linear(2, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.ones(1, 2)).sum().backward()
    optimizer = adamw(model, lr=0.01, weight_decay=0.5, betas=(0.9, 0.95), eps=1e-8)
    optimizer.step()
    sign = {name: p.grad.sign() for name, p in model.named_parameters()}  # m̂ / √v̂ = ±1 at the first step
    torch.testing.assert_close(model.weight, before["weight"] * (1 - 0.01 * 0.5) - 0.01 * sign["weight"])
    torch.testing.assert_close(model.bias, before["bias"] - 0.01 * sign["bias"])


def test_schedule_values():
    """Catches a peak reached a step early or late, and an end that misses the floor."""

    def lr(step):
        return cosine_schedule(step, steps=110, lr=2.0, warmup_steps=10, min_lr_ratio=0.1)

    assert lr(1) == pytest.approx(0.2)
    assert lr(5) == pytest.approx(1.0)
    assert lr(10) == pytest.approx(2.0)
    assert lr(60) == pytest.approx(1.1)  # halfway between 2.0 and 0.2
    assert lr(35) == pytest.approx(0.2 + 1.8 * (2 + 2**0.5) / 4)  # cos 45°
    assert lr(110) == lr(500) == pytest.approx(0.2)
    rates = [lr(step) for step in range(1, 111)]
    assert rates.index(max(rates)) == 9
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_schedule_without_warm_up_or_without_descent():
    """Catches a division by zero when there is nothing to warm up, or nothing left after it."""
    assert cosine_schedule(1, steps=1, lr=3.0) == pytest.approx(0.3)
    assert cosine_schedule(0, steps=10, lr=3.0) == pytest.approx(3.0)
    assert cosine_schedule(9, steps=10, lr=3.0, warmup_steps=10) == pytest.approx(2.7)


def test_the_trapezoid_climbs_stays_and_descends():
    """Catches a plateau that ends too early or late, a line that misses the floor, and one that curves."""
    rates = [trapezoid_schedule(step, steps=200, lr=2.0, warmup_steps=10, min_lr_ratio=0.1) for step in range(1, 201)]
    assert rates[4] == pytest.approx(1.0)
    assert rates[9:70] == pytest.approx([2.0] * 61)  # 65 of 100 steps go down
    assert rates[134] == pytest.approx(1.1)  # halfway between 2.0 and 0.2
    assert rates[199] == trapezoid_schedule(500, steps=200, lr=2.0) == pytest.approx(0.2)
    falls = [a - b for a, b in itertools.pairwise(rates[69:])]
    assert falls == pytest.approx([1.8 / 130] * 130)
    assert trapezoid_schedule(1, steps=1, lr=3.0) == pytest.approx(0.3)
    assert trapezoid_schedule(0, steps=10, lr=3.0) == pytest.approx(3.0)


def test_a_long_warm_up_meets_the_descent_without_a_jump():
    """Catches a rate that climbs past the line down and then drops onto it."""
    rates = [trapezoid_schedule(step, steps=100, lr=1.0, warmup_steps=80) for step in range(1, 101)]
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.02
    assert max(rates) < 1
