"""Pre-training and transfer: the company of a word, how much text vectors need, a classifier for eight labels."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

PMI = math.log(0.008 / (0.020 * 0.050))

company = Exercise(
    answer=PMI,
    tolerance=0.01,
    unit="nats",
    hints=[
        Hint(8.0, "This is the ratio of the count to chance; the PMI is its logarithm."),
        Hint(-PMI, "The other way round: what is seen stands above, what chance gives below."),
        Hint(math.log10(8), "This is the logarithm to base 10; take the natural one."),
    ],
)

amount = Exercise(
    answer="600 to all",
    options=["60 to 600", "600 to all"],
    hints=[
        Hint("60 to 600", "Compare the two differences of the means, `by_amount[600] - by_amount[60]` and the next.")
    ],
)


def nearest_centroid(x, labels, unknown):
    """The class whose mean vector is nearer."""
    centroids = torch.stack([x[labels == k].mean(0) for k in (0, 1)])  # [2, C]
    return torch.cdist(unknown, centroids).argmin(1)


def _farther(x, labels, unknown):
    return 1 - nearest_centroid(x, labels, unknown)


def _nearest_neighbour(x, labels, unknown):
    return labels[torch.cdist(unknown, x).argmin(1)]


def _longest_product(x, labels, unknown):
    centroids = torch.stack([x[labels == k].mean(0) for k in (0, 1)])
    return (unknown @ centroids.T).argmax(1)


def _clouds(seed):
    """Eight sentences in two overlapping clouds away from the origin, of different length, and twenty unknown ones."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1] * 4)
    centres = torch.tensor([[1.0, 1.0, 0.0], [3.0, 2.0, 0.5]])
    x = centres[labels] + torch.randn(8, 3, generator=generator)
    unknown = centres[torch.tensor([0, 1] * 10)] + 1.5 * torch.randn(20, 3, generator=generator)
    return x, labels, unknown


build = Exercise(
    build=nearest_centroid,
    cases=[Case("two clouds", _clouds(0)), Case("two others", _clouds(1))],
    hints=[
        Hint(_farther, "This is the class of the farther centroid."),
        Hint(_nearest_neighbour, "This takes the nearest sentence: take the mean vector of each class first."),
        Hint(_longest_product, "A product grows with the length of a centroid: compare distances."),
    ],
)

EXERCISES = {1: company, 2: amount, 3: build}
