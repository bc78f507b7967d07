"""Prompting: a threshold moved by hand, other words for the answers, an ensemble of orders."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

SCORES = torch.tensor([-1.2, 0.3, 0.5, 0.9, 1.4, 2.0])
LABELS = torch.tensor([0, 0, 1, 0, 1, 1])
LEANING = 0.7


def _accuracy(threshold):
    return ((threshold < SCORES).long() == LABELS).float().mean().item()


def _ranking():
    higher = SCORES[LABELS == 1][:, None] > SCORES[LABELS == 0][None]
    return higher.float().mean().item()


RIGHT = [_accuracy(0.0), _accuracy(LEANING), _ranking()]

threshold = Exercise(
    answer=RIGHT,
    tolerance=0.006,
    hints=[
        Hint(
            lambda given: abs(given[0] - _accuracy(-LEANING)) < 0.006 and abs(given[1] - RIGHT[0]) < 0.006,
            "The first accuracy belongs to the threshold 0, the second to the threshold 0.7.",
        ),
        Hint(lambda given: abs(given[2] - 8) < 0.01, "Eight pairs of nine are right; the ranking is their share."),
        Hint(
            lambda given: abs(given[0] - 4) < 0.01 or abs(given[1] - 4) < 0.01,
            "An accuracy is a share: divide the number of right answers by six.",
        ),
        Hint(
            lambda given: abs(given[2] - 1 / 9) < 0.006,
            "This is the share of pairs the wrong way round: the ranking is the share of the others.",
        ),
    ],
)

other_words = Exercise(
    answer="no–yes",
    options=["bad–good", "no–yes", "terrible–great"],
    hints=[
        Hint("bad–good", "Near 0.8 on the recorded sentences: another pair answers a question nobody has asked."),
        Hint("terrible–great", "This pair is among the better ones: another answers a question nobody has asked."),
    ],
)


def ensemble(scores):
    """The mean over prompts, after each prompt's median has been taken off."""
    return (scores - scores.median(dim=1, keepdim=True).values).mean(0)


def _mean(scores):
    return scores.mean(0)


def _median_of_each_sentence(scores):
    return (scores - scores.median(dim=0, keepdim=True).values).mean(0)


def _median_afterwards(scores):
    return scores.mean(0) - scores.mean(0).median()


def _scores(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 7, generator=generator) + torch.tensor([[2.0], [-1.0], [0.5]])


build = Exercise(
    build=ensemble,
    tolerance=1e-5,
    cases=[Case("three prompts, seven sentences", (_scores(0),)), Case("other scores", (_scores(1),))],
    hints=[
        Hint(_mean, "The prompt with the strongest leaning prevails: take off each prompt's median first."),
        Hint(_median_afterwards, "Take the median off before the mean: prompts lean differently, each by its own."),
        Hint(_median_of_each_sentence, "The median of a prompt runs over its sentences: along dim=1."),
    ],
)

EXERCISES = {1: threshold, 2: other_words, 3: build}
