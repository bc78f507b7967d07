"""Training a language model on one machine: objective, optimiser, loop, evaluation, checkpoints.

Start with ``step.py``, the twenty lines everything else surrounds; then ``loop.py``.
"""

from llmbook.training.callbacks import Callback, JsonlLog, ProgressBar
from llmbook.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    restore_model,
    save_checkpoint,
)
from llmbook.training.config import TrainConfig
from llmbook.training.evaluate import Evaluation, evaluate, mean_loss
from llmbook.training.history import History
from llmbook.training.loop import Trainer, TrainingError
from llmbook.training.objectives import Batch, Loss, Objective, causal_lm_loss
from llmbook.training.optim import adamw, cosine_schedule, parameter_groups
from llmbook.training.runtime import Runtime, choose_device
from llmbook.training.step import StepResult, train_step

__all__ = [
    "Batch",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "Evaluation",
    "History",
    "JsonlLog",
    "Loss",
    "Objective",
    "ProgressBar",
    "Runtime",
    "StepResult",
    "TrainConfig",
    "Trainer",
    "TrainingError",
    "adamw",
    "causal_lm_loss",
    "choose_device",
    "cosine_schedule",
    "evaluate",
    "load_checkpoint",
    "mean_loss",
    "parameter_groups",
    "restore_model",
    "save_checkpoint",
    "train_step",
]
