"""The policy gradient with a price on leaving a reference."""

from copy import deepcopy

import pytest
import torch

from llmbook.adaptation import GRPOLoss, add_lora
from llmbook.training import policy_gradient_loss
from tests.model.helpers import random_ids, small_lm


def batch(n=4):
    labels = random_ids(n, 6)
    advantages = torch.linspace(-1, 1, n)
    return {"input_ids": labels, "labels": labels.masked_fill(torch.arange(6) < 2, -100), "advantages": advantages}


def moved(model):
    torch.manual_seed(5)
    other = deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return other


def test_at_the_reference_it_is_the_policy_gradient():
    """Catches a price that is not 0, or pulls, where nothing has moved."""
    model, texts = small_lm(), batch()
    priced, plain = GRPOLoss(beta=3.0, reference=deepcopy(model))(model, texts), policy_gradient_loss(model, texts)
    torch.testing.assert_close(priced.total, plain.total, atol=1e-5, rtol=1e-5)
    parameters = list(model.parameters())
    for a, b in zip(*(torch.autograd.grad(loss.total, parameters) for loss in (priced, plain)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_price_is_the_divergence_on_average():
    """Catches a ratio the wrong way round and targets that do not count: over all tokens, weighted by π, the price is
    KL(π ‖ π_ref), and its gradient at fixed weights that of KL(π_ref ‖ π)."""
    reference = small_lm()
    model = moved(reference)
    prompt = random_ids(1, 3)
    with torch.no_grad():
        log_p, log_ref = (m(prompt).logits[0, -1].log_softmax(-1) for m in (model, reference))
    V = len(log_p)
    texts = torch.cat([prompt.expand(V, 3), torch.arange(V)[:, None]], dim=1)
    loss, mean, parameters = GRPOLoss(beta=1.0, reference=reference), 0.0, list(model.parameters())
    gradient = [torch.zeros_like(p) for p in parameters]
    for i in range(V):
        labels = texts[i : i + 1].masked_fill(torch.arange(4) < 3, -100)
        one = loss(model, {"input_ids": texts[i : i + 1], "labels": labels, "advantages": torch.zeros(1)})
        weight = log_p[i].exp()
        mean = mean + weight * one.total
        for total, g in zip(gradient, torch.autograd.grad(one.total, parameters), strict=True):
            total += weight * g
    torch.testing.assert_close(mean.detach(), (log_p.exp() * (log_p - log_ref)).sum(), atol=1e-5, rtol=1e-4)
    other_way = -(log_ref.exp() * model(prompt).logits[0, -1].log_softmax(-1)).sum()
    for a, b in zip(gradient, torch.autograd.grad(other_way, parameters), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_without_a_reference_it_is_the_model_before_its_lora():
    """Catches a reference that moves with the model, whose price is always 0."""
    model, texts = small_lm(), batch()
    before = deepcopy(model)
    add_lora(model, r=2, target_modules=["q_proj", "v_proj"])
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora" in name:
                p.normal_(std=0.3)
    own, given = GRPOLoss(beta=0.5)(model, texts), GRPOLoss(beta=0.5, reference=before)(model, texts)
    torch.testing.assert_close(own.total, given.total)
    assert (own.total - policy_gradient_loss(model, texts).total).abs() > 1e-3


@pytest.mark.parametrize("beta", [0, -1.0, float("inf")])
def test_a_price_that_is_none_is_refused(beta):
    """Catches a price that rewards leaving."""
    with pytest.raises(ValueError, match=f"beta={beta}"):
        GRPOLoss(beta=beta)


def test_what_is_missing_is_named():
    """Catches an error from deep inside where advantages are missing, or there is nothing to compare with."""
    with pytest.raises(ValueError, match="no advantages"):
        GRPOLoss(beta=1.0, reference=small_lm())(small_lm(), {"input_ids": random_ids(2, 5)})
    with pytest.raises(ValueError, match="LoRA"):
        GRPOLoss(beta=1.0)(small_lm(), batch())
