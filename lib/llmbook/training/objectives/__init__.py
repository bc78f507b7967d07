"""What is minimised: ``objective(model, batch) -> Loss(total, n_targets)``, summed nats and a number of targets.

Begin with ``base.py`` (what an objective promises) and ``causal.py`` (the one every chapter uses).
"""

from llmbook.training.objectives.base import Batch, Loss, Objective
from llmbook.training.objectives.causal import (
    causal_lm_loss,
    causal_nll,
    prefix_lm_loss,
    reversed_lm_loss,
    seq2seq_loss,
    shifted,
)
from llmbook.training.objectives.contrastive import ContrastiveLoss, info_nce
from llmbook.training.objectives.diffusion import masked_diffusion_loss
from llmbook.training.objectives.multi_token import multi_token_loss
from llmbook.training.objectives.multitask import ByTask
from llmbook.training.objectives.policy import advantages_of, group_advantages, policy_gradient_loss
from llmbook.training.objectives.token_level import classification_loss, masked_lm_loss, permutation_lm_loss

__all__ = [
    "Batch",
    "ByTask",
    "ContrastiveLoss",
    "Loss",
    "Objective",
    "advantages_of",
    "causal_lm_loss",
    "causal_nll",
    "classification_loss",
    "group_advantages",
    "info_nce",
    "masked_diffusion_loss",
    "masked_lm_loss",
    "multi_token_loss",
    "permutation_lm_loss",
    "policy_gradient_loss",
    "prefix_lm_loss",
    "reversed_lm_loss",
    "seq2seq_loss",
    "shifted",
]
