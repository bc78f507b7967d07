"""Does a layer know it? A linear classifier on its states, and a check that the classifier does not do the work.

A probe that scores high may have found a property in the states, or learnt it from the training labels by heart.
Hewitt & Liang (https://arxiv.org/abs/1909.03368) tell the two apart with a control task: every word type gets a label
by lot, so that only memory can help. Selectivity is accuracy on the task minus accuracy on its control.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """softmax(W (x - mean) / spread + b), with ``mean`` and ``spread`` those of the training states."""

    weight: Float[Tensor, "K C"]
    bias: Float[Tensor, "K"]
    mean: Float[Tensor, "C"]
    spread: Float[Tensor, "C"]

    def logits(self, states: Float[Tensor, "N C"]) -> Float[Tensor, "N K"]:
        return F.linear((states.to(self.weight.dtype) - self.mean) / self.spread, self.weight, self.bias)

    def accuracy(self, states: Float[Tensor, "N C"], labels: Int[Tensor, "N"]) -> float:
        return (self.logits(states).argmax(-1) == labels.to(states.device)).float().mean().item()


def fit_probe(
    states: Float[Tensor, "N C"], labels: Int[Tensor, "M"], *, n_labels: int, l2: float = 1e-3, max_iter: int = 200
) -> LinearProbe:
    """Multinomial logistic regression: the W and b with the least mean cross-entropy plus l2/2 · ‖W‖².

    The problem has one minimum; L-BFGS finds it in float64 from 0, so nothing is random.

    Raises:
        ValueError: the numbers of states and labels differ, or a label is not below ``n_labels``.
    """
    if len(states) != len(labels) or len(states) == 0:
        raise ValueError(f"{len(states)} states and {len(labels)} labels do not make a training set")
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_labels:
        raise ValueError(f"labels from {int(labels.min())} to {int(labels.max())}, but n_labels={n_labels}")
    x, labels = states.detach().double(), labels.to(states.device)
    mean, spread = x.mean(0), x.std(0, correction=0).clamp_min(1e-8)
    x = (x - mean) / spread
    weight = torch.zeros(n_labels, x.shape[1], dtype=torch.float64, device=x.device, requires_grad=True)
    bias = torch.zeros(n_labels, dtype=torch.float64, device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=max_iter, tolerance_grad=1e-8, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(F.linear(x, weight, bias), labels) + l2 / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return LinearProbe(weight=weight.detach(), bias=bias.detach(), mean=mean, spread=spread)


def control_labels(
    types: Int[Tensor, "N"], labels: Int[Tensor, "N"], *, generator: torch.Generator | None = None
) -> Int[Tensor, "N"]:
    """A label by lot for each type (the same wherever the type stands), as frequent overall as the real labels."""
    distinct, which = types.unique(return_inverse=True)
    device = None if generator is None else generator.device
    lot = torch.randint(len(labels), (len(distinct),), generator=generator, device=device)
    return labels[lot.to(labels.device)][which.to(labels.device)]


def split_groups(
    groups: Int[Tensor, "N"], *, test_fraction: float = 0.25, generator: torch.Generator | None = None
) -> Bool[Tensor, "N"]:
    """True for the test set: whole groups (sentences), since states of one sentence know of each other.

    Raises:
        ValueError: one side would be empty.
    """
    distinct, which = groups.unique(return_inverse=True)
    n_test = round(test_fraction * len(distinct))
    if not 0 < n_test < len(distinct):
        raise ValueError(f"{len(distinct)} groups cannot be split with test_fraction={test_fraction}")
    device = None if generator is None else generator.device
    rank = torch.randperm(len(distinct), generator=generator, device=device).argsort().to(groups.device)
    return (rank < n_test)[which]


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Accuracies on the test set. ``majority``: of always giving the most frequent training label."""

    accuracy: float
    control: float
    majority: float

    @property
    def selectivity(self) -> float:
        return self.accuracy - self.control


def probe(
    states: Float[Tensor, "N C"],
    labels: Int[Tensor, "N"],
    *,
    types: Int[Tensor, "N"],
    groups: Int[Tensor, "N"],
    l2: float = 1e-3,
    test_fraction: float = 0.25,
    generator: torch.Generator | None = None,
) -> ProbeResult:
    """Fit a probe and its control on the same part of the states, test both on the rest.

    Args:
        labels: what to find, from 0 on. types: the word each state stands on, for the control task.
        groups: the sentence each state comes from; no sentence is on both sides.
    """
    labels, types, groups = (x.to(states.device) for x in (labels, types, groups))
    test = split_groups(groups, test_fraction=test_fraction, generator=generator)
    n_labels = int(labels.max()) + 1
    accuracies = []
    for task in (labels, control_labels(types, labels, generator=generator)):
        fitted = fit_probe(states[~test], task[~test], n_labels=n_labels, l2=l2)
        accuracies.append(fitted.accuracy(states[test], task[test]))
    most = labels[~test].mode().values
    return ProbeResult(
        accuracy=accuracies[0], control=accuracies[1], majority=(labels[test] == most).float().mean().item()
    )
