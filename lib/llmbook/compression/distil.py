r"""A small model that learns from a large one's probabilities as well as from the text (https://arxiv.org/abs/1503.02531).

The teacher's distribution says more than the one token that came: how likely each of the others would have been.
Dividing both models' logits z by a temperature τ brings the small probabilities out. With p for the teacher and q for
the student,

$$\mathcal{L} = \alpha\, \tau^2\, \mathrm{KL}\big(p^{(\tau)} \,\|\, q^{(\tau)}\big) + (1 - \alpha)\,(-\log q_{target}),
  \qquad q^{(\tau)} = \mathrm{softmax}(z / \tau)$$

summed over the targets. The soft term's gradient shrinks as 1/τ²; the factor τ² keeps the two terms in proportion when
τ changes. KL differs from the paper's cross-entropy by the teacher's entropy, which the student cannot change, and is
0 when the two agree.
"""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model import evaluating
from llmbook.text.labels import IGNORE
from llmbook.training import Batch, Loss
from llmbook.training.objectives import shifted
from llmbook.training.objectives.base import summed


class Distillation:
    """An objective: ``Distillation(teacher)(student, batch)`` is a ``Loss`` over the targets of ``causal_lm_loss``.

    The teacher is only read: without dropout and without gradients. It must be on the student's device.

    Args:
        teacher: a language model over the student's vocabulary.
        temperature: τ above; 1 compares the distributions as they are.
        soft_weight: α above; 1 learns from the teacher alone, 0 from the text alone.

    Raises:
        ValueError: an option is out of range, or (when called) the vocabularies differ.
    """

    def __init__(self, teacher: nn.Module, *, temperature: float = 2.0, soft_weight: float = 0.5):
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature}: must be greater than 0 and finite")
        if not 0 <= soft_weight <= 1:
            raise ValueError(f"soft_weight={soft_weight}: must lie between 0 (text alone) and 1 (teacher alone)")
        self.teacher, self.temperature, self.soft_weight = teacher, temperature, soft_weight

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        inputs, mask, targets = shifted(batch, "input_ids", "attention_mask")
        logits = model(inputs, attention_mask=mask).logits  # [B, T, V]
        with evaluating(self.teacher):
            teacher_logits = self.teacher(inputs, attention_mask=mask).logits  # [B, T, V]
        if logits.shape != teacher_logits.shape:
            raise ValueError(
                f"the student knows {logits.shape[-1]} tokens and the teacher {teacher_logits.shape[-1]}: "
                "distillation compares them token by token, so both must use one tokenizer"
            )
        hard = summed(logits, targets)
        apart = kl_divergence(teacher_logits, logits, temperature=self.temperature)  # [B, T]
        soft = self.temperature**2 * apart.masked_fill(targets == IGNORE, 0).sum()
        return Loss(self.soft_weight * soft + (1 - self.soft_weight) * hard.total, hard.n_targets)


def kl_divergence(
    teacher_logits: Float[Tensor, "*P V"], student_logits: Float[Tensor, "*P V"], *, temperature: float = 1.0
) -> Float[Tensor, "*P"]:
    """KL(teacher ‖ student) at every place in nats: how much longer the student's code for the teacher's text is."""
    teacher, student = (
        F.log_softmax(logits.float() / temperature, dim=-1) for logits in (teacher_logits, student_logits)
    )
    return (teacher.exp() * (teacher - student)).sum(-1)
