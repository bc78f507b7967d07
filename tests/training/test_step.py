"""One optimiser step, and what its numbers mean."""

import pytest
import torch

from llmbook.training import causal_lm_loss, train_step
from tests.training.helpers import CPU, CountingBatches, tiny_model


def take_step(micro_batches, *, clip_norm=None, scaler=None):
    """Plain gradient descent with learning rate 1: the weights move by exactly the gradient."""
    model = tiny_model(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    result = train_step(
        model,
        micro_batches,
        objective=causal_lm_loss,
        optimizer=optimizer,
        scaler=scaler or CPU.grad_scaler(),
        runtime=CPU,
        clip_norm=clip_norm,
    )
    moved = [old - p.detach() for old, p in zip(before, model.parameters(), strict=True)]
    return model, result, moved


def uneven_batch() -> dict[str, torch.Tensor]:
    """Eight rows with 1 to 8 targets each."""
    ids = torch.randint(11, (8, 9))
    labels = ids.clone()
    for row in range(8):
        labels[row, row + 2 :] = -100
    return {"input_ids": ids, "labels": labels}


@pytest.fixture
def batch():
    return uneven_batch()


@pytest.mark.parametrize("n_parts", [2, 4, 8])
def test_accumulation_gives_the_gradient_of_the_whole_batch(batch, n_parts):
    """Catches a mean of means: 1 × 8 and 4 × 2 rows agree only if the loop divides by targets, not by batches."""
    _, whole, whole_gradient = take_step([batch])
    parts = zip(*(tensor.chunk(n_parts) for tensor in batch.values()), strict=True)
    _, split, split_gradient = take_step([dict(zip(batch, part, strict=True)) for part in parts])
    assert int(split.n_targets) == int(whole.n_targets) == 36
    torch.testing.assert_close(split.loss, whole.loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(split.grad_norm, whole.grad_norm, atol=1e-6, rtol=1e-6)
    for a, b in zip(split_gradient, whole_gradient, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_the_step_follows_the_gradient_of_the_mean(batch):
    """Catches a missing or doubled division by the number of targets."""
    model = tiny_model(dropout=0.0)
    loss = causal_lm_loss(model, batch)
    (loss.total / loss.n_targets).backward()
    expected = [p.grad for p in model.parameters()]
    _, result, moved = take_step([batch])
    for a, b in zip(moved, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(result.grad_norm, torch.stack([g.norm() for g in expected]).norm())


def test_clipping_limits_the_norm_and_keeps_the_direction(batch):
    """Catches clipping before the division (the norm of a sum), and clipping each tensor by itself."""
    _, free, direction = take_step([batch])
    limit = float(free.grad_norm) / 4
    _, clipped, moved = take_step([batch], clip_norm=limit)
    torch.testing.assert_close(clipped.grad_norm, free.grad_norm)  # the norm reported is the one before
    torch.testing.assert_close(torch.stack([m.norm() for m in moved]).norm().item(), limit, atol=1e-5, rtol=1e-4)
    for a, b in zip(moved, direction, strict=True):
        torch.testing.assert_close(a, b / 4, atol=1e-6, rtol=1e-3)


def test_gradients_do_not_leak_into_the_next_step(batch):
    """Catches a forgotten zero_grad, and a loss that keeps its graph in memory."""
    model, result, _ = take_step([batch])
    assert all(p.grad is None for p in model.parameters())
    assert not result.loss.requires_grad


def test_a_gradient_scaler_changes_nothing_but_the_range(batch):
    """Catches gradients clipped or divided while they are still scaled: then float16 learns at another rate."""
    plain_model, plain, _ = take_step([batch], clip_norm=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    model, scaled, _ = take_step([batch], clip_norm=0.1, scaler=scaler)
    torch.testing.assert_close(scaled.grad_norm, plain.grad_norm)
    for a, b in zip(model.parameters(), plain_model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_a_step_that_overflows_is_skipped(batch):
    """Catches weights ruined by a float16 overflow that the scaler should have caught."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    _, result, moved = take_step([batch], clip_norm=1.0, scaler=scaler)
    assert not result.grad_norm.isfinite()
    assert all((m == 0).all() for m in moved)
    assert scaler.get_scale() == pytest.approx(0.5e38)


@pytest.mark.parametrize("n_parts", [1, 2])
def test_without_targets_nothing_moves(n_parts):
    """Catches 0 / 0, which makes every weight NaN before anybody has looked, and a step that only decays."""
    nothing = {"input_ids": torch.randint(11, (2, 9)), "labels": torch.full((2, 9), -100)}
    model = tiny_model(dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    common = dict(objective=causal_lm_loss, optimizer=optimizer, scaler=CPU.grad_scaler(), runtime=CPU, clip_norm=1.0)
    train_step(model, [next(CountingBatches())], **common)  # momentum that would go on
    before = [p.detach().clone() for p in model.parameters()]
    result = train_step(model, [nothing] * n_parts, **common)
    assert [float(number) for number in result] == [0.0, 0.0, 0.0]
    assert all(torch.equal(old, p) for old, p in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
