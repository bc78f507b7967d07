"""What processes say to each other, written by hand: an all-reduce, tensor parallelism, a pipeline.

Begin with ``all_reduce.py``. ``run_ranks`` starts the processes, also from a notebook. For training in earnest see
``llmbook.training.distributed``.
"""

from llmbook.parallel.all_reduce import bytes_per_process, ring_all_reduce
from llmbook.parallel.pipeline import Stage, pipeline_step
from llmbook.parallel.ranks import RankError, run_ranks
from llmbook.parallel.schedules import Slot, bubble_fraction, most_in_flight, order, schedule
from llmbook.parallel.tensor_parallel import (
    RowParallelLinear,
    TensorParallel,
    column_parallel,
    tensor_parallel,
)

__all__ = [
    "RankError",
    "RowParallelLinear",
    "Slot",
    "Stage",
    "TensorParallel",
    "bubble_fraction",
    "bytes_per_process",
    "column_parallel",
    "most_in_flight",
    "order",
    "pipeline_step",
    "ring_all_reduce",
    "run_ranks",
    "schedule",
    "tensor_parallel",
]
