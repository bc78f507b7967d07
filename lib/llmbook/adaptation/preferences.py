r"""Learning from which of two answers people prefer: directly (DPO), or through a reward model.

Bradley and Terry's model says how likely the first answer wins, given each one's reward r:
$p = \sigma(r_{chosen} - r_{rejected})$. A *reward model* learns r as one number at an answer's end
(https://arxiv.org/abs/2203.02155). *Direct preference optimisation* (https://arxiv.org/abs/2305.18290) needs none: the
model that maximises a reward while staying near a frozen reference has, of itself, the reward

$$r(x, y) = \beta \left(\log \pi(y \mid x) - \log \pi_{ref}(y \mid x)\right)$$

up to a constant of the question x that drops out of the difference; so π is trained on pairs at once. Batches are
those of ``pad_preferences``; a target is a pair. At π = π_ref every loss here is log 2 a pair.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.adaptation.reference import reading
from llmbook.training.objectives import Batch, Loss, causal_nll


class Rewards(NamedTuple):
    """What each answer of the pairs is worth to the model, in nats times β."""

    chosen: Float[Tensor, "B"]
    rejected: Float[Tensor, "B"]

    @property
    def margin(self) -> Float[Tensor, "B"]:
        return self.chosen - self.rejected

    @property
    def accuracy(self) -> float:
        """The share of pairs whose preferred answer is worth more; a tie counts half."""
        return ((self.margin > 0).float() + 0.5 * (self.margin == 0).float()).mean().item()


class DPOLoss:
    """An objective: −log σ(r_chosen − r_rejected), summed over pairs.

    Args:
        beta: how dear it is to leave the reference; the paper's experiments use 0.1 to 0.5.
        reference: the frozen model π_ref, such as a copy from before. None: the model without its LoRA.
        label_smoothing: the probability that a pair's label is wrong (conservative DPO,
            https://ericmitchell.ai/cdpo.pdf).

    Raises:
        ValueError: an option is out of range; at the first call, if there is neither reference nor LoRA.
    """

    def __init__(self, *, beta: float = 0.1, reference: nn.Module | None = None, label_smoothing: float = 0.0):
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta={beta}: must be positive and finite")
        if not 0 <= label_smoothing < 0.5:
            raise ValueError(f"label_smoothing={label_smoothing}: must lie in [0, 0.5); at 0.5 a label says nothing")
        self.beta, self.reference, self.label_smoothing = beta, reference, label_smoothing

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        margin = self.rewards(model, batch).margin  # [B]
        right, wrong = -F.logsigmoid(margin), -F.logsigmoid(-margin)
        losses = (1 - self.label_smoothing) * right + self.label_smoothing * wrong
        return Loss(losses.sum(), torch.tensor(len(losses), device=losses.device))

    def rewards(self, model: nn.Module, batch: Batch) -> Rewards:
        """β (log π − log π_ref) of each answer; gradients reach π alone."""
        of_model = [response_log_probs(model, batch, side) for side in ("chosen", "rejected")]
        with reading(self.reference, model) as reference:
            of_reference = [response_log_probs(reference, batch, side) for side in ("chosen", "rejected")]
        return Rewards(*(self.beta * (a - b) for a, b in zip(of_model, of_reference, strict=True)))


def response_log_probs(model: nn.Module, batch: Batch, side: str) -> Float[Tensor, "B"]:
    """log π(answer | question), in nats: summed over the answer's tokens, not averaged.

    ``side`` is "chosen" or "rejected". Raises ValueError when shapes do not fit.
    """
    names = {"input_ids": "ids", "labels": "labels", "attention_mask": "mask"}
    nats, _ = causal_nll(model, {name: batch[f"{side}_{short}"] for name, short in names.items()})
    return -nats.sum(1)


def reward_model_loss(model: nn.Module, batch: Batch) -> Loss:
    """An objective: −log σ(r_chosen − r_rejected), r being the one logit of a sequence classifier.

    ``SequenceClassifier(lm.backbone, n_labels=1, pooling="last", pooler_layer=False)`` makes one of a language model.
    """
    margin = model_rewards(model, batch).margin
    return Loss(-F.logsigmoid(margin).sum(), torch.tensor(len(margin), device=margin.device))


def model_rewards(model: nn.Module, batch: Batch) -> Rewards:
    """The reward model's value of each answer. Raises ValueError if the model has more than one output."""
    values = [
        model(batch[f"{side}_ids"], attention_mask=batch[f"{side}_mask"]).logits.float()
        for side in ("chosen", "rejected")
    ]  # each [B, 1]
    if values[0].ndim != 2 or values[0].shape[1] != 1:
        raise ValueError(f"a reward is one number a sequence; the model's logits have shape {tuple(values[0].shape)}")
    return Rewards(*(value[:, 0] for value in values))
