"""Training: the derivative of a logit, a fault that no test hears, clipping."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

delta = Exercise(
    answer=[0.125, -0.175, 0.05],
    tolerance=0.001,
    hints=[
        Hint([0.5, -0.7, 0.2], "This is p − Y; the loss is a mean over T = 4 predictions, so divide by 4."),
        Hint(
            [-0.125, 0.175, -0.05],
            "The sign is turned round: the right letter's logit has to rise, so its δ is negative.",
        ),
        Hint([0.125, 0.075, 0.05], "Only divided by 4: take the 1 off the probability of the right letter first."),
    ],
)

heard = Exercise(
    answer=0,
    hints=[
        Hint(1, "Which one? Each test holds for any target, as long as the targets are letters that come later."),
        Hint(8, "A test rings only where its own property is broken."),
    ],
)


def clip(grads, longest):
    """All gradients by one factor, so that together they are at most ``longest`` long."""
    length = math.sqrt(sum(float((g * g).sum()) for g in grads))
    return [g * min(1.0, longest / length) for g in grads] if length else grads


def _each_by_itself(grads, longest):
    return [g * min(1.0, longest / max(float(g.norm()), 1e-12)) for g in grads]


def _each_number(grads, longest):
    return [g.clamp(-longest, longest) for g in grads]


def _always(grads, longest):
    length = math.sqrt(sum(float((g * g).sum()) for g in grads))
    return [g * longest / length for g in grads] if length else grads


def _not_at_all(grads, longest):
    return grads


def _zero(clip):
    """None if gradients that are all zero stay zero, else what is wrong."""
    (kept,) = clip([torch.zeros(1, 2)], 1.0)
    return None if torch.equal(torch.as_tensor(kept), torch.zeros(1, 2)) else "gradients of zero should stay zero"


SHORT, LONG = torch.tensor([[0.1, -0.2]]), torch.tensor([[3.0, -4.0]])

build = Exercise(
    build=clip,
    cases=[
        Case("one gradient, too long", ([LONG], 1.0)),
        Case("one that is short enough", ([SHORT], 1.0)),
        Case("two together", ([LONG, torch.tensor([[0.0, 12.0]])], 2.0)),
        Case("zero", test=_zero),
    ],
    hints=[
        Hint(_each_by_itself, "You shorten each tensor by itself: the direction of all together changes."),
        Hint(_each_number, "You limit each number: that changes the direction. Multiply everything by one factor."),
        Hint(_always, "A gradient that is short enough must not be made longer."),
        Hint(_not_at_all, "A gradient that is too long has to be shortened."),
    ],
)

EXERCISES = {1: delta, 2: heard, 3: build}
