r"""Sharded data parallelism: each process keeps, and updates, 1/n of the parameters (https://arxiv.org/abs/1910.02054).

An all-reduce of gradients is a reduce-scatter and an all-gather. Between the two each process knows the whole sum for
its 1/n of the numbers, and that is enough to update them:

    gradients ── reduce-scatter ── 1/n of them ── optimiser, with 1/n of its moments ── all-gather ── parameters

The traffic is that of an all-reduce. The choice here is the second stage of the paper: gradients and moments are
sharded, parameters are whole during a step. FSDP also drops those, and gathers them once more for the backward pass.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmbook.parallel.all_reduce import all_gather, reduce_scatter


class Shard:
    """This process's 1/n of ``model``'s parameters, laid end to end: ``mine`` is what an optimiser is given.

    All processes must hold the same model. ``sent`` counts the bytes this process has sent. Raises ValueError for
    parameters of more than one dtype.
    """

    def __init__(self, model: nn.Module):
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        dtypes = {p.dtype for p in self.parameters}
        if len(dtypes) != 1:
            raise ValueError(f"parameters of {sorted(map(str, dtypes))}: one vector holds them, so they need one dtype")
        self.mine = nn.Parameter(self._cut([p.detach() for p in self.parameters])[self._place].clone())
        self.sent = 0

    def reduce(self) -> None:
        """From each process's gradients to their sum, of which ``mine`` gets its part; the whole ones are dropped."""
        pieces = self._cut([torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
        self.sent += reduce_scatter(pieces)
        self.mine.grad = pieces[self._place].clone()
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def gather(self) -> None:
        """From every process's ``mine`` to the model's parameters."""
        pieces = self._cut([p.detach() for p in self.parameters])
        pieces[self._place].copy_(self.mine)
        self.sent += all_gather(pieces)
        flat = torch.cat(pieces)
        for p, new in zip(self.parameters, flat.split([p.numel() for p in self.parameters]), strict=True):
            p.copy_(new.view_as(p))

    @property
    def _place(self) -> int:
        return (dist.get_rank() + 1) % dist.get_world_size()  # as the ring of all_reduce.py leaves them

    def _cut(self, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.cat([t.flatten() for t in tensors]).tensor_split(dist.get_world_size())
