"""Muon: torch's own steps, the right parameters, and a run that can be killed."""

import pytest
import torch

from llmbook.model import LSTMLM
from llmbook.training import Muon, TrainConfig, Trainer, adamw, causal_lm_loss, choose_runtime, muon, orthogonalise
from tests.training.helpers import CountingBatches, tiny_model

SHAPES = [(6, 6), (12, 4), (4, 12), (6, 6)]


def muon_over(parameters, **dials) -> Muon:
    values = {"lr": 0.03, "weight_decay": 0.1, "momentum": 0.95, **dials}
    return Muon([{"params": parameters, "method": "muon", **values}])


def random_matrices(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("shape", [(8, 8), (20, 5), (5, 20), (3, 8, 4)])
def test_singular_values_become_equal_and_directions_stay(shape):
    """Catches a wrong coefficient, and a transposition that is not undone."""
    x = torch.randn(shape, dtype=torch.float64)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    _, after, _ = torch.linalg.svd(orthogonalise(x), full_matrices=False)
    lifted = s / s.norm(dim=-1, keepdim=True) > 0.02
    assert (after[lifted] > 0.6).all()
    assert (after < 1.25).all()
    in_old_directions = u.mT @ orthogonalise(x) @ v.mT
    off_diagonal = in_old_directions - torch.diag_embed(in_old_directions.diagonal(dim1=-2, dim2=-1))
    torch.testing.assert_close(off_diagonal, torch.zeros_like(off_diagonal), atol=1e-10, rtol=0)


def test_each_singular_value_goes_through_the_polynomial():
    """Catches a number of steps or a coefficient that is off while the result still looks orthogonal."""
    s = torch.tensor([3.0, 2.0, 1.0, 0.1], dtype=torch.float64)
    expected = s / s.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    torch.testing.assert_close(orthogonalise(torch.diag(s)).diagonal(), expected)
    assert orthogonalise(torch.zeros(3, 3)).eq(0).all()


@pytest.mark.parametrize("exact", [True, False])
def test_every_step_is_torchs(monkeypatch, exact):
    """Catches a plain average in place of Nesterov's, decay scaled by the shape, and a scale for wide matrices.

    torch rounds the iteration to bfloat16; with ``exact`` it is kept from doing so and the weights must agree to
    float32, without it to the rounding of bfloat16.
    """
    if exact:
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    ours, theirs = random_matrices(), random_matrices()
    dials = dict(lr=0.03, weight_decay=0.1, momentum=0.9)
    optimizer, reference = muon_over(ours, **dials), torch.optim.Muon(theirs, **dials)
    for step in range(6):
        for p, q, gradient in zip(ours, theirs, random_matrices(seed=step + 1), strict=True):
            p.grad, q.grad = gradient.clone(), gradient.clone()
        for group in (optimizer.param_groups[0], reference.param_groups[0]):
            group["lr"] = 0.03 / (step + 1)  # as a schedule does
        optimizer.step()
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, atol=1e-6 if exact else 2e-3, rtol=0)


def test_matrices_of_one_shape_are_stepped_together_but_apart():
    """Catches a norm or a product taken over the whole stack in place of each matrix."""
    x = torch.randn(3, 5, 7, dtype=torch.float64) * torch.tensor([1.0, 1e3, 1e-3], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(orthogonalise(x), torch.stack([orthogonalise(each) for each in x]))


def test_matrices_of_blocks_go_to_muon_and_everything_else_to_adamw():
    """Catches a token table or a norm that is orthogonalised, and a parameter that no group holds."""
    model = tiny_model(bias=True, qk_norm=True)
    model.backbone.blocks[0].attention.q_proj.weight.requires_grad_(False)
    optimizer = muon(model, muon_lr=0.02, lr=1e-3, weight_decay=0.3)
    names = {p: name for name, p in model.named_parameters()}
    method = {names[p]: group["method"] for group in optimizer.param_groups for p in group["params"]}
    decay = {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    inside = {n for n in names.values() if "blocks" in n and n.endswith("proj.weight") and "q_proj" not in n}
    assert {n for n, m in method.items() if m == "muon"} == inside
    assert set(method) == set(names.values()) - {"backbone.blocks.0.attention.q_proj.weight"}
    assert {n for n, d in decay.items() if d == 0} == {n for n in method if "norm" in n or "bias" in n}
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 1e-3, 1e-3]


def test_the_rest_is_stepped_as_adamw_steps():
    """Catches a forgotten bias correction or decay in the AdamW half: equal to torch's on the same gradients."""
    model, other = tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    dials = dict(lr=1e-2, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-6)
    optimizer, reference = muon(model, muon_lr=0.02, **dials), adamw(other, **dials)
    for _ in range(3):
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        optimizer.step()
        reference.step()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        if "blocks" not in name or p.ndim < 2:
            torch.testing.assert_close(p, q, atol=1e-6, rtol=0, msg=name)


def test_a_parameter_without_a_gradient_stays():
    """Catches decay, or a crash, on a part of the model that this batch did not use."""
    matrices = random_matrices()
    before = [m.clone() for m in matrices]
    optimizer = muon_over(matrices)
    matrices[0].grad = torch.ones_like(matrices[0])
    optimizer.step()
    moved = [not torch.equal(m, b) for m, b in zip(matrices, before, strict=True)]
    assert moved == [True, False, False, False]


def test_saved_state_continues_bit_for_bit():
    """Catches a momentum, moment or step count that state_dict forgets or changes in type."""

    def stepped(n_before, n_after):
        model = tiny_model(dropout=0.0)
        optimizer = muon(model, lr=1e-2)
        generator = torch.Generator().manual_seed(3)
        for step in range(n_before + n_after):
            if step == n_before:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                model = tiny_model(seed=9, dropout=0.0)
                model.load_state_dict(state["model"])
                optimizer = muon(model, lr=1e-2)
                optimizer.load_state_dict(state["optimizer"])
            ids = torch.randint(11, (2, 9), generator=generator)
            causal_lm_loss(model, {"input_ids": ids}).total.backward()
            optimizer.step()
            optimizer.zero_grad()
        return list(model.parameters())

    for a, b in zip(stepped(0, 6), stepped(3, 3), strict=True):
        assert torch.equal(a, b)


def test_products_in_bfloat16_are_torchs_to_the_last_bits():
    """Catches a precision that is not passed on (the difference to float32 is fifty times this), or that leaks out."""
    ours, theirs = random_matrices(), random_matrices()
    dials = dict(lr=0.03, weight_decay=0.0)
    optimizer, reference = muon_over(ours, **dials), torch.optim.Muon(theirs, **dials)
    optimizer.product_dtype = torch.bfloat16
    for p, q, gradient in zip(ours, theirs, random_matrices(seed=1), strict=True):
        p.grad, q.grad = gradient.clone(), gradient.clone()
    optimizer.step()
    reference.step()
    assert all(state["momentum"].dtype == torch.float32 for state in optimizer.state.values())
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "wanted"), [("bfloat16", torch.bfloat16), ("float32", None)])
def test_a_run_in_bfloat16_gives_muon_its_precision(dtype, wanted):
    """Catches an optimiser that multiplies in float32 although the run chose bfloat16, or the other way round."""
    config = TrainConfig(steps=2, optimizer="muon")
    trainer = Trainer(tiny_model(), CountingBatches(), config, runtime=choose_runtime("cpu", dtype))
    assert trainer.state.optimizer.product_dtype == wanted


def test_what_muon_cannot_step_is_refused():
    """Catches a vector orthogonalised as a matrix, and a model trained without the optimiser it was given."""
    with pytest.raises(ValueError, match=r"shape \(4,\) is for AdamW"):
        muon_over([torch.zeros(4, requires_grad=True)])
    with pytest.raises(ValueError, match="LSTMLM has no trainable matrix in blocks"):
        muon(LSTMLM(vocab_size=5, d_model=4), lr=1e-3)
