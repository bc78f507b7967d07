"""What processes say to each other, written by hand: sums, shards, tensor and sequence parallelism, a pipeline.

Begin with ``all_reduce.py``. ``run_ranks`` starts processes for one call, ``Ranks`` for several, also from a notebook.
For training in earnest see ``llmbook.training.distributed``.
"""

from llmbook.parallel.all_reduce import bytes_per_process, ring_all_reduce
from llmbook.parallel.pipeline import Stage, pipeline_step
from llmbook.parallel.ranks import RankError, Ranks, run_ranks
from llmbook.parallel.schedules import Slot, bubble_fraction, most_in_flight, order, schedule
from llmbook.parallel.sequence_parallel import add_partial_gradients, sequence_parallel
from llmbook.parallel.sharded import Shard
from llmbook.parallel.tensor_parallel import (
    RowParallelLinear,
    TensorParallel,
    column_parallel,
    tensor_parallel,
)
from llmbook.parallel.traffic import Traffic

__all__ = [
    "RankError",
    "Ranks",
    "RowParallelLinear",
    "Shard",
    "Slot",
    "Stage",
    "TensorParallel",
    "Traffic",
    "add_partial_gradients",
    "bubble_fraction",
    "bytes_per_process",
    "column_parallel",
    "most_in_flight",
    "order",
    "pipeline_step",
    "ring_all_reduce",
    "run_ranks",
    "schedule",
    "sequence_parallel",
    "tensor_parallel",
]
