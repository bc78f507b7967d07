"""Training a language model, on one process or several: objective, optimiser, loop, evaluation, checkpoints.

Start with ``step.py``, the twenty lines everything else surrounds; then ``loop.py``.
"""

from llmbook.training.callbacks import Announce, Callback, JsonlLog, ProgressBar
from llmbook.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    restore_model,
    save_checkpoint,
)
from llmbook.training.config import TrainConfig
from llmbook.training.errors import TrainingError
from llmbook.training.evaluate import Evaluation, evaluate, mean_loss
from llmbook.training.history import History
from llmbook.training.loop import Trainer
from llmbook.training.muon import Muon, muon, orthogonalise
from llmbook.training.objectives import (
    Batch,
    ByTask,
    ContrastiveLoss,
    Loss,
    Objective,
    causal_lm_loss,
    classification_loss,
    group_advantages,
    info_nce,
    masked_diffusion_loss,
    masked_lm_loss,
    multi_token_loss,
    permutation_lm_loss,
    policy_gradient_loss,
    prefix_lm_loss,
    reversed_lm_loss,
    seq2seq_loss,
)
from llmbook.training.optim import adamw, cosine_schedule, parameter_groups, trapezoid_schedule
from llmbook.training.rollouts import GroupRollouts
from llmbook.training.runtime import Runtime, choose_runtime
from llmbook.training.state import RunState
from llmbook.training.step import StepResult, train_step

__all__ = [
    "Announce",
    "Batch",
    "ByTask",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "ContrastiveLoss",
    "Evaluation",
    "GroupRollouts",
    "History",
    "JsonlLog",
    "Loss",
    "Muon",
    "Objective",
    "ProgressBar",
    "RunState",
    "Runtime",
    "StepResult",
    "TrainConfig",
    "Trainer",
    "TrainingError",
    "adamw",
    "causal_lm_loss",
    "choose_runtime",
    "classification_loss",
    "cosine_schedule",
    "evaluate",
    "group_advantages",
    "info_nce",
    "load_checkpoint",
    "masked_diffusion_loss",
    "masked_lm_loss",
    "mean_loss",
    "multi_token_loss",
    "muon",
    "orthogonalise",
    "parameter_groups",
    "permutation_lm_loss",
    "policy_gradient_loss",
    "prefix_lm_loss",
    "restore_model",
    "reversed_lm_loss",
    "save_checkpoint",
    "seq2seq_loss",
    "train_step",
    "trapezoid_schedule",
]
