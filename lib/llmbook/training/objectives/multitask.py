"""Several objectives for one model: each batch says which task it belongs to, and goes to that task's objective.

How often each task comes is decided by the data (``llmbook.text.MixedBatches``), not by weights in the loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from llmbook.training.objectives.base import Batch, Loss, Objective


@dataclass(frozen=True)
class ByTask:
    """The objective of a mixture: ``batch["task"]`` names the one of ``objectives`` to use.

    Raises ValueError when called with a batch of a task that has none.
    """

    objectives: Mapping[str, Objective]

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        task = batch.get("task")
        if not isinstance(task, str) or task not in self.objectives:
            raise ValueError(f"task {task!r} has no objective: there are {', '.join(map(repr, self.objectives))}")
        return self.objectives[task](model, {name: value for name, value in batch.items() if name != "task"})
