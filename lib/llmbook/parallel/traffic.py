"""What a piece of code sends: every call of ``torch.distributed`` inside it, counted in bytes.

The choice here: PyTorch passes collective calls through its dispatcher like any operation, so one listener there sees
ours, DDP's and FSDP's alike. It is told the size of the tensors; what then crosses the wires depends on the algorithm,
and the count is that of a ring, (n − 1)/n of the whole for each half of an all-reduce.
"""

from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SENT = {  # of the larger tensor, in units of (n − 1)/n
    "allreduce": 2,
    "allreduce_coalesced": 2,
    "_allgather_base": 1,
    "allgather_into_tensor_coalesced": 1,
    "allgather": 1,
    "_reduce_scatter_base": 1,
    "reduce_scatter_tensor_coalesced": 1,
    "reduce_scatter": 1,
}


class Traffic(TorchDispatchMode):
    """``with Traffic() as seen: …`` and then ``seen.calls``, a counter of calls by name, and ``seen.sent``, bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.sent = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if name.startswith("c10d::"):
            self._count(name.removeprefix("c10d::").rstrip("_"), args)
        return func(*args, **(kwargs or {}))

    def _count(self, name: str, args: Any) -> None:
        tensors = [a for a in tree_leaves(args) if isinstance(a, torch.Tensor)]
        n = dist.get_world_size()
        if name == "send":
            self.sent += sum(t.nbytes for t in tensors)
        elif name in SENT and tensors:
            self.sent += SENT[name] * (n - 1) / n * max(t.nbytes for t in tensors)
        self.calls[name] += 1
