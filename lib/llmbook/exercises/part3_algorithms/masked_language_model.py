"""Masked language models: what happens to 400 tokens, impossible pairs, the masking itself."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

fates = Exercise(
    answer=[48.0, 6.0, 6.0, 340.0],
    tolerance=0.5,
    hints=[
        Hint([320.0, 40.0, 40.0, 0.0], "Only 15 % of the tokens are chosen; the shares are of those."),
        Hint([48.0, 6.0, 6.0, 346.0], "The unchanged ones among the chosen have a loss, too: only 340 have none."),
        Hint([48.0, 6.0, 340.0, 6.0], "The last two are exchanged: 6 are unchanged and scored."),
    ],
)

cities = Exercise(
    answer=[2 / 3, 0.9, 0.34],
    tolerance=0.006,
    hints=[
        Hint([1 / 3, 0.1, 0.66], "This is the share of possible pairs: take it from 1."),
        Hint([4 / 9, 0.18, 0.32], "2p(1 − p) holds for two cities; with more, sum p² over all and take it from 1."),
    ],
)


def mask(ids, chance, fate, other):
    """What the model reads, and the labels."""
    chosen = chance < 0.15
    read = torch.where(chosen & (fate < 0.8), 99, ids)
    read = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), other, read)
    return read, torch.where(chosen, ids, -100)


def _all_labels(ids, chance, fate, other):
    return mask(ids, chance, fate, other)[0], ids


def _labels_of_read(ids, chance, fate, other):
    read, labels = mask(ids, chance, fate, other)
    return read, torch.where(labels >= 0, read, -100)


def _only_hidden(ids, chance, fate, other):
    read, labels = mask(ids, chance, fate, other)
    return read, torch.where(read == 99, labels, -100)


def _all_random(ids, chance, fate, other):
    read, labels = mask(ids, chance, fate, other)
    return torch.where((labels >= 0) & (fate >= 0.8), other, read), labels


def _untouched(ids, chance, fate, other):
    return ids, ids


IDS, OTHER = torch.arange(10, 18), torch.arange(30, 38)
CHANCE = torch.tensor([0.1, 0.9, 0.05, 0.2, 0.14, 0.5, 0.01, 0.6])
FATE = torch.tensor([0.3, 0.1, 0.85, 0.85, 0.95, 0.95, 0.79, 0.2])

build = Exercise(
    build=mask,
    cases=[
        Case("one of each fate", (IDS, CHANCE, FATE, OTHER)),
        Case("nothing is chosen", (IDS, torch.full((8,), 0.5), FATE, OTHER)),
        Case("everything is chosen", (IDS, torch.zeros(8), FATE, OTHER)),
    ],
    hints=[
        Hint(_untouched, "Nothing is hidden yet: start with the places where chance is below 0.15."),
        Hint(_all_labels, "A place that was not chosen has the label −100."),
        Hint(_labels_of_read, "The label is the original token, not what stands there now."),
        Hint(_only_hidden, "Random and unchanged tokens have a loss as well if they were chosen."),
        Hint(_all_random, "A fate of 0.9 or more leaves the chosen token as it is."),
    ],
)

EXERCISES = {1: fates, 2: cities, 3: build}
