"""Probes find what is there, and their control says when they only remember."""

import pytest
import torch
import torch.nn.functional as F

from llmbook.interpret import control_labels, fit_probe, probe, split_groups


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_fit_is_the_minimum_of_the_formula():
    """A penalty on the bias, a factor of two in it, or an optimiser that stops too early."""
    states, labels = torch.randn(60, 5) * 3 + 1, torch.randint(3, (60,))
    fitted = fit_probe(states, labels, n_labels=3, l2=0.1)
    x = (states.double() - states.double().mean(0)) / states.double().std(0, correction=0)
    weight, bias = fitted.weight.clone().requires_grad_(), fitted.bias.clone().requires_grad_()
    loss = F.cross_entropy(x @ weight.T + bias, labels) + 0.05 * (weight**2).sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-6
    torch.testing.assert_close(fitted.logits(states), x @ fitted.weight.T + fitted.bias)


def test_a_direction_is_found_whatever_its_size():
    """States of very different scales, where an unscaled probe sees the largest alone; dimensions that never move."""
    states = torch.randn(200, 4) * torch.tensor([1000.0, 1.0, 0.001, 0.0]) + 5
    labels = (states[:, 2] > 5).long()
    fitted = fit_probe(states[:100], labels[:100], n_labels=2)
    assert fitted.accuracy(states[100:], labels[100:]) > 0.95


def test_nothing_of_the_test_set_reaches_the_fit():
    """Means and spreads taken over all states; a sentence on both sides."""
    groups = torch.arange(40).repeat_interleave(3)
    test = split_groups(groups, test_fraction=0.25, generator=seeded())
    assert test.sum() == 30
    assert not set(groups[test].tolist()) & set(groups[~test].tolist())
    states, labels = torch.randn(120, 4), torch.randint(2, (120,))
    first = fit_probe(states[~test], labels[~test], n_labels=2)
    assert torch.equal(first.mean, states[~test].double().mean(0))

    def result(moved):
        return probe(moved, labels, types=groups, groups=groups, generator=seeded())

    moved = states.clone()
    moved[test] += 100.0  # a fit that saw them would change; tests on them do
    again = fit_probe(moved[~test], labels[~test], n_labels=2)
    assert torch.equal(first.weight, again.weight)
    assert result(states).majority == result(moved).majority
    assert result(states).accuracy == pytest.approx(first.accuracy(states[test], labels[test]))
    assert result(moved).accuracy == pytest.approx(first.accuracy(moved[test], labels[test]))


def test_control_labels():
    """A label by occurrence instead of by type; labels that are never or far too often given."""
    types = torch.randint(500, (4000,), generator=seeded())
    labels = (torch.rand(4000, generator=seeded(1)) < 0.2).long()
    control = control_labels(types, labels, generator=seeded(2))
    for t in range(0, 500, 7):
        assert len(control[types == t].unique()) == 1
    assert 0.12 < control.float().mean() < 0.28
    assert not torch.equal(control, labels)


def test_selectivity_tells_knowing_from_remembering():
    """A control as easy as its task, or accuracies exchanged: one code holds the label, the other only the word."""
    n_types, n = 200, 1200
    types = torch.randint(n_types, (n,), generator=seeded())
    groups = torch.arange(n) // 6
    context = torch.randint(2, (n,), generator=seeded(1))  # a label the word does not give away
    words = torch.randn(n_types, 16, generator=seeded(2))
    told = torch.cat((words[types][:, :4], context[:, None] * 2.0 + torch.randn(n, 1) * 0.1), dim=1)
    found = probe(told, context, types=types, groups=groups, generator=seeded(3))
    assert found.accuracy > 0.97
    assert 0.35 < found.control < 0.75
    assert found.selectivity == found.accuracy - found.control
    assert 0.4 < found.majority < 0.6
    one_hot = F.one_hot(types, n_types).float()
    by_word = torch.randint(2, (n_types,), generator=seeded(4))[types]
    remembered = probe(one_hot, by_word, types=types, groups=groups, generator=seeded(5))
    assert remembered.accuracy > 0.97
    assert abs(remembered.selectivity) < 0.05


def test_bad_input_is_named():
    """A label beyond the last, an empty side, states without labels."""
    with pytest.raises(ValueError, match="labels from 0 to 3, but n_labels=3"):
        fit_probe(torch.randn(4, 2), torch.arange(4), n_labels=3)
    with pytest.raises(ValueError, match="4 states and 3 labels"):
        fit_probe(torch.randn(4, 2), torch.arange(3), n_labels=3)
    with pytest.raises(ValueError, match="1 groups cannot be split"):
        split_groups(torch.zeros(5, dtype=torch.long))
