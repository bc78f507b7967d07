"""Distillation: the formula in float64, where the gradient goes, and what is refused."""

import math

import pytest
import torch

from llmbook.compression import Distillation, kl_divergence
from llmbook.training import causal_lm_loss
from tests.compression.helpers import tiny_lm


def student_and_teacher():
    teacher = tiny_lm()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tiny_lm(n_layers=1), teacher


def batch() -> dict[str, torch.Tensor]:
    """Some labels ignored, the second row padded on the left."""
    ids = torch.randint(48, (2, 7))
    labels = ids.clone()
    labels[0, 2:4] = -100
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def softmax(scores: list[float]) -> list[float]:
    """In Python floats."""
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(("temperature", "soft_weight"), [(1.0, 0.5), (2.0, 0.9), (5.0, 1.0), (3.0, 0.0)])
def test_the_loss_is_the_formula_in_float64(temperature, soft_weight):
    """Catches a forgotten T², the two weights swapped, KL the wrong way round, a mean in place of the sum, a shift in
    one term only, and ignored or padded places that count."""
    (student, teacher), data = student_and_teacher(), batch()
    inputs, mask = data["input_ids"][:, :-1], data["attention_mask"][:, :-1]
    z, v = (model(inputs, attention_mask=mask).logits.double().tolist() for model in (student, teacher))
    total, n_targets = 0.0, 0
    for row in range(2):
        for t in range(6):
            target = int(data["labels"][row, t + 1])
            if target == -100 or not mask[row, t]:
                continue
            p, q = (softmax([x / temperature for x in scores[row][t]]) for scores in (v, z))
            soft = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            total += soft_weight * soft + (1 - soft_weight) * -math.log(softmax(z[row][t])[target])
            n_targets += 1
    loss = Distillation(teacher, temperature=temperature, soft_weight=soft_weight)(student, data)
    assert int(loss.n_targets) == n_targets == 8
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)


def test_the_gradient_goes_to_the_student_alone():
    """Catches a teacher that is trained along, and its dropout left on or its mode changed."""
    student, teacher = student_and_teacher()
    for block in teacher.backbone.blocks:
        block.dropout.p = 0.5
    teacher.train()
    objective, data = Distillation(teacher, soft_weight=1.0), batch()
    first, second = objective(student, data), objective(student, data)
    assert torch.equal(first.total, second.total)  # no dropout in the teacher
    assert teacher.training
    first.total.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_without_a_teacher_it_is_the_usual_loss_and_a_perfect_student_has_none():
    """Catches an offset: at α = 0 the text alone counts, at α = 1 agreement costs nothing."""
    (student, teacher), data = student_and_teacher(), batch()
    alone = Distillation(teacher, soft_weight=0.0)(student, data)
    torch.testing.assert_close(alone, causal_lm_loss(student, data))
    agreed = Distillation(teacher, soft_weight=1.0, temperature=3.0)(teacher, data)
    assert agreed.total.abs() < 1e-4


def test_divergence_is_not_symmetric():
    """Catches KL taken from the student's side: the teacher's 1/2, 1/2 against 1/4, 3/4 costs ½ log(4/3)."""
    teacher, student = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    assert float(kl_divergence(teacher, student)) == pytest.approx(0.5 * math.log(4 / 3), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"soft_weight": 1.5}, "soft_weight=1.5"),
    ],
)
def test_impossible_dials_are_refused(options, message):
    """Catches a division by zero, a loss of inf · 0, and a negative share of the text."""
    with pytest.raises(ValueError, match=message):
        Distillation(tiny_lm(), **options)


def test_another_vocabulary_is_refused():
    """Catches probabilities compared across different tokens; broadcasting must not hide it."""
    student = tiny_lm(vocab_size=64)
    with pytest.raises(ValueError, match="the student knows 64 tokens and the teacher 48"):
        Distillation(tiny_lm())(student, batch())
