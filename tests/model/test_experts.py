"""Routing: shares, capacity and the two balances of a layer of experts, against formulas written with loops."""

import math

import pytest
import torch
from torch import nn

from llmbook.model import DecoderLM, ExpertFeedForward, Experts, Routing, balance_by_bias, balance_loss, watch_routing
from llmbook.model import experts as module
from tests.model.helpers import random_ids, small_config, small_lm
from tests.mutations import must_be_noticed


def layer_of(seed=0, **settings):
    """Five experts for width 6, with weights of a deviation of 0.5."""
    torch.manual_seed(seed)
    settings = Experts(n_experts=5, **settings)
    layer = ExpertFeedForward([nn.Linear(6, 6) for _ in range(5)], d_model=6, settings=settings)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.5)
        if layer.selection_bias is not None:
            layer.selection_bias.copy_(torch.tensor([2.0, 0.0, -2.0, 0.0, 1.0]))
    return layer


def gradients(loss, held):
    """The derivatives, 0 where the loss does not depend on a tensor."""
    found = torch.autograd.grad(loss, held, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(held, found, strict=True)]


def by_token(layer, x):
    """Each token by itself: its scores, its best experts, its shares, their outputs; first come, first served."""
    settings = layer.settings
    room = math.inf
    if settings.capacity is not None and layer.training:
        room = math.ceil(settings.capacity * len(x) * settings.n_active / settings.n_experts)
    taken, rows = [0] * settings.n_experts, []
    for token in x:
        scores = layer.router.weight @ token
        wanted = scores if layer.selection_bias is None else scores + layer.selection_bias
        best = wanted.argsort(descending=True)[: settings.n_active]
        among = scores.exp().sum() if settings.shares == "all" else scores[best].exp().sum()
        y = torch.zeros_like(token)
        for e in best.tolist():
            if taken[e] < room:
                y = y + scores[e].exp() / among * layer.experts[e](token)
            taken[e] += 1
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("n_active", [1, 3])
@pytest.mark.parametrize("shares", ["chosen", "all"])
@pytest.mark.parametrize("capacity", [None, 0.6])
@pytest.mark.parametrize("selection_bias", [False, True])
def test_a_layer_is_its_formula(n_active, shares, capacity, selection_bias):
    """Catches shares of the biased scores, of the wrong experts, a token that is served after the expert is full."""
    layer = layer_of(n_active=n_active, shares=shares, capacity=capacity, selection_bias=selection_bias)
    x = torch.randn(23, 6, requires_grad=True)
    ours, wanted = layer(x), by_token(layer, x)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    weights, held = torch.randn_like(ours), [x, *layer.parameters()]
    for got, right in zip(*(gradients((y * weights).sum(), held) for y in (ours, wanted)), strict=True):
        torch.testing.assert_close(got, right, atol=1e-4, rtol=1e-4)


def router_gradient(shares):
    layer, x = layer_of(n_active=1, shares=shares), torch.randn(23, 6)
    loss = (layer(x) * torch.randn(23, 6)).sum()
    return gradients(loss, [layer.router.weight])[0]


def test_one_expert_teaches_the_router_only_by_all_scores():
    """Catches a share without the router's derivative; with "chosen" the one share is 1, whatever the scores are."""
    assert router_gradient("all").abs().max() > 0.1
    assert router_gradient("chosen").abs().max() < 1e-6


def test_there_is_no_limit_when_reading():
    """Catches a model whose answer depends on what else is read with a text."""
    layer, x = layer_of(n_active=1, capacity=0.5), torch.randn(23, 6)
    limited = layer(x)
    assert (limited == 0).all(-1).sum() > 3  # found no room
    layer.eval()
    whole = layer(x)
    assert not (whole == 0).all(-1).any()
    torch.testing.assert_close(torch.cat([layer(x[:9]), layer(x[9:])]), whole, atol=1e-5, rtol=1e-5)


def test_balance_loss_is_its_formula():
    """Catches a mean of the wrong kind, a choice taken for a probability, a factor that depends on E or k."""
    scores = torch.randn(40, 5, requires_grad=True)
    routing = Routing(scores, scores.topk(2).indices)
    p = scores.softmax(-1)
    f = torch.tensor([sum(e in row for row in routing.chosen.tolist()) / 80 for e in range(5)])
    wanted = sum(5 * f[e] * p[:, e].mean() for e in range(5))
    torch.testing.assert_close(balance_loss(routing), wanted, atol=1e-6, rtol=1e-6)
    got, right = (torch.autograd.grad(loss, scores)[0] for loss in (balance_loss(routing), wanted))
    torch.testing.assert_close(got, right, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(routing.load, f)


@pytest.mark.parametrize(("n_experts", "n_active"), [(4, 1), (8, 2)])
def test_balance_loss_is_one_where_the_load_is_even_and_more_where_it_is_not(n_experts, n_active):
    """Catches a scale that changes with the number of experts."""
    even = torch.eye(n_experts).repeat(4, 1) * 9 + torch.eye(n_experts).roll(1, 1).repeat(4, 1) * 8
    chosen = even.topk(n_active).indices
    assert balance_loss(Routing(even, chosen)).item() == pytest.approx(1.0, abs=1e-4)
    all_on_one = torch.zeros(12, n_experts)
    all_on_one[:, 0] = 20.0
    one = Routing(all_on_one, all_on_one.topk(1).indices)
    assert balance_loss(one).item() == pytest.approx(n_experts, abs=1e-3)


def test_the_balance_loss_evens_the_load():
    """Catches a sign: descent must lower the load of the busy."""
    torch.manual_seed(0)
    scores = (torch.randn(200, 4) + torch.tensor([2.0, 0, 0, 0])).requires_grad_()
    before = Routing(scores, scores.topk(1).indices)
    for _ in range(60):
        (grad,) = torch.autograd.grad(balance_loss(Routing(scores, scores.topk(1).indices)), scores)
        scores = (scores - 40 * grad).detach().requires_grad_()
    after = Routing(scores, scores.topk(1).indices)
    assert before.load.max() > 0.6
    assert after.load.max() < 0.4


def test_the_bias_evens_the_load_and_leaves_the_shares():
    """Catches a sign, a bias that enters the shares, a step taken from the mean of the wrong thing."""
    model = small_lm(experts=Experts(n_experts=4, n_active=1, shares="all", selection_bias=True), init_std=0.2)
    ids = random_ids(8, 16)
    loads = []
    for _ in range(80):
        with watch_routing(model) as routings, torch.no_grad():
            model(ids)
        loads.append(routings[0].load.max().item())
        biases = [b.clone() for n, b in model.named_buffers() if n.endswith("selection_bias")]
        balance_by_bias(model, routings, step=0.02)
        for old, now, routing in zip(
            biases, (b for n, b in model.named_buffers() if n.endswith("selection_bias")), routings, strict=True
        ):
            moved = torch.tensor([0.02 * ((load < 0.25) - (load > 0.25)) for load in routing.load.tolist()])
            torch.testing.assert_close(now - old, moved, atol=1e-6, rtol=0)
    assert loads[-1] < min(0.4, loads[0])


def test_what_is_watched_is_what_was_computed():
    """Catches routings of another layer or order, and hooks that stay behind."""
    model, ids = small_lm(experts=Experts(n_experts=4, n_active=2)), random_ids(2, 9)
    with watch_routing(model) as routings:
        model(ids)
    assert [r.scores.shape for r in routings] == [(18, 4)] * 2
    assert [r.chosen.shape for r in routings] == [(18, 2)] * 2
    first = model.backbone.blocks[0]
    x = torch.randn(7, 24)
    with watch_routing(first) as here:
        first.feed_forward(x)
    torch.testing.assert_close(here[0].scores, x @ first.feed_forward.router.weight.T)
    assert here[0].chosen.equal(first.feed_forward.route(x)[1])
    model(ids)
    assert len(routings) == 2
    with pytest.raises(RuntimeError, match="inside"), watch_routing(model) as routings:
        raise RuntimeError("inside")
    model(ids)
    assert routings == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(shares="some"), "shares='some' is not one of"),
        (dict(capacity=0.0), "capacity=0.0: give a positive number"),
        (dict(capacity=math.inf), "capacity=inf: give a positive number"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    """Catches a choice that would be ignored."""
    with pytest.raises(ValueError, match=message):
        Experts(**settings)


def test_who_has_no_experts_says_so():
    """Catches a balance that silently does nothing."""
    with pytest.raises(ValueError, match="DecoderLM has no layer of experts"), watch_routing(small_lm()):
        pass
    model = small_lm(experts=Experts(n_experts=4, n_active=1))
    with watch_routing(model) as routings:
        model(random_ids(1, 5))
    with pytest.raises(ValueError, match="make it with selection_bias=True"):
        balance_by_bias(model, routings, step=0.1)
    with pytest.raises(ValueError, match="1 routings for 2 layers"):
        balance_by_bias(model, routings[:1], step=0.1)


def test_the_bias_is_saved_with_the_weights():
    """Catches a bias on the choice that is lost: a loaded model would choose other experts."""
    config = small_config(experts=Experts(n_experts=4, n_active=1, selection_bias=True))
    names = [name for name in DecoderLM(config).state_dict() if name.endswith("selection_bias")]
    assert len(names) == 2
    plain = DecoderLM(small_config(experts=Experts(n_experts=4, n_active=1))).state_dict()
    assert not any(name.endswith("selection_bias") for name in plain)


def shares_of_the_biased(self, x):
    scores = self.router(x)
    biased = scores if self.selection_bias is None else scores + self.selection_bias
    best, chosen = biased.topk(self.settings.n_active, dim=-1)
    return (best.softmax(-1) if self.settings.shares == "chosen" else biased.softmax(-1).gather(-1, chosen)), chosen


def without_derivative(self, x, usual=ExpertFeedForward.route):
    shares, chosen = usual(self, x)
    return shares.detach(), chosen


MISTAKES = {
    "shares of the biased scores": (
        ExpertFeedForward, "route", shares_of_the_biased,
        lambda: test_a_layer_is_its_formula(3, "all", None, True),
    ),
    "a router without a derivative": (
        ExpertFeedForward, "route", without_derivative, test_one_expert_teaches_the_router_only_by_all_scores,
    ),
    "a capacity that also limits reading": (
        ExpertFeedForward, "_room",
        lambda self, n: None if self.settings.capacity is None else math.ceil(self.settings.capacity * n / 5),
        test_there_is_no_limit_when_reading,
    ),
    "a capacity of all tokens, not of the choices": (
        ExpertFeedForward, "_room",
        lambda self, n: None if self.settings.capacity is None else math.ceil(0.6 * n / self.settings.n_active / 5),
        lambda: test_a_layer_is_its_formula(3, "chosen", 0.6, False),
    ),
    "a load that is a softmax": (
        Routing, "load", property(lambda self: self.scores.softmax(-1).mean(0)), test_balance_loss_is_its_formula,
    ),
    "a bias against the idle": (
        module.torch, "sign", lambda x, usual=torch.sign: -usual(x), test_the_bias_evens_the_load_and_leaves_the_shares,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed(name, monkeypatch):
    """Catches a test of this file that would stay green under the mistake it is for."""
    owner, attribute, mistake, test = MISTAKES[name]
    must_be_noticed(owner, attribute, mistake, test, monkeypatch)
