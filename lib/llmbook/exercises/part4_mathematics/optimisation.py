"""Optimisation: a step beyond the limit, the bound with momentum, power iteration."""

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

LIMIT, GROWN = 2 / 50, abs(1 - 0.05 * 50) ** 10

beyond = Exercise(
    answer=[LIMIT, GROWN],
    hints=[
        Hint([1 / 50, GROWN], "At 1/λ one step lands at the bottom; the limit is twice as far."),
        Hint([LIMIT, 1.5], "That is the factor of one step. Ten steps multiply by it ten times."),
        Hint([LIMIT, 0.05 * 50], "The factor of a step is 1 − ηλ, not ηλ."),
    ],
)

bound = Exercise(
    answer=19.0,
    tolerance=0.05,
    hints=[
        Hint(10.0, "That is 2/η, the bound without momentum."),
        Hint(100.0, "You divided by 1 − β; the condition has 1 + β in the numerator."),
        Hint(0.2 * 3.8 / 2, "Solve for λ: it stands in the denominator."),
    ],
)


def largest(multiply, v, steps):
    """The eigenvalue of largest absolute value of a symmetric matrix, by power iteration."""
    eigenvalue = 0.0
    for _ in range(steps):
        v = v / v.norm()
        product = multiply(v)
        eigenvalue, v = float(v @ product), product
    return eigenvalue


def _length(multiply, v, steps):
    for _ in range(steps):
        v = multiply(v / v.norm())
    return float(v.norm())


def _not_divided(multiply, v, steps):
    for _ in range(steps):
        v = multiply(v)
    return float(v @ multiply(v))


def _of(matrix):
    matrix = torch.tensor(matrix)
    return lambda v: matrix @ v


def _many_steps(largest):
    """None if 300 steps stay finite and right, else what is wrong."""
    found = float(largest(_of([[30.0, 10.0], [10.0, 20.0]]), torch.tensor([1.0, 0.0]), 300))
    right = 25 + 125**0.5
    return None if abs(found - right) < 0.01 * right else f"after 300 steps it is {found:.4g}, not {right:.4g}"


build = Exercise(
    build=largest,
    cases=[
        Case("a diagonal matrix", (_of([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 1.0]), 20)),
        Case("a negative eigenvalue", (_of([[1.0, 2.0], [2.0, -3.0]]), torch.tensor([1.0, 0.5]), 20)),
        Case("three dimensions", (_of([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]]), torch.ones(3), 20)),
        Case("many steps", test=_many_steps),
    ],
    hints=[
        Hint(_length, "The length of Hv is never negative: use vᵀHv of a v of length 1."),
        Hint(_not_divided, "Divide v by its length before every product, or it grows without limit."),
    ],
)

EXERCISES = {1: beyond, 2: bound, 3: build}
