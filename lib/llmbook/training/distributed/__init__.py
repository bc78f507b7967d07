"""Training on several processes: copies of the model (DDP) or shards of it (FSDP2), by PyTorch's own engines.

``training/parallel.py`` lists what the training loop asks; begin with ``engines.py``, which answers, then see
``checkpoint.py``, folders written together. ``python -m llmbook.training`` puts them to work.
"""

from llmbook.training.distributed.checkpoint import load_run, load_sharded, load_trained, save_sharded
from llmbook.training.distributed.engines import DDP, FSDP, make_parallel
from llmbook.training.distributed.launch import process_group

__all__ = [
    "DDP",
    "FSDP",
    "load_run",
    "load_sharded",
    "load_trained",
    "make_parallel",
    "process_group",
    "save_sharded",
]
