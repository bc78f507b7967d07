"""Two ways for the processes of one run to share the work: copies of the model (DDP), or shards of it (FSDP2).

The engines are PyTorch's own, ``DistributedDataParallel`` (https://arxiv.org/abs/2006.15704) and ``fully_shard``
(https://arxiv.org/abs/2304.11277); what is ours is the arithmetic around them. Both *average* gradients over processes.
An average of means is wrong as soon as processes score different numbers of targets. So every process brings the
gradient of a *sum*, and the step divides by the targets of all processes; the engine's own division by the number of
processes is taken back there.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from llmbook.model.layers import Block
from llmbook.training.checkpoint import Checkpoint, CheckpointError
from llmbook.training.config import TrainConfig
from llmbook.training.distributed.checkpoint import save_sharded
from llmbook.training.objectives import Batch
from llmbook.training.parallel import Parallel
from llmbook.training.runtime import Runtime

fully_shard: Any = getattr(fsdp, "fully_shard", None)  # torch 2.6 and later


class _Processes(Parallel):
    """What the two engines share: rank and size of the process group, and how numbers are summed."""

    def __init__(self) -> None:
        if not dist.is_initialized():
            raise ValueError(
                f"parallel={self.name!r} needs a process group: start with torchrun, or make this object inside "
                "llmbook.training.distributed.process_group()"
            )
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def rows(self, batch: Batch) -> Batch:
        """Rows ``rank · B/n`` to ``(rank + 1) · B/n``. Raises ValueError where B is not a multiple of n."""
        sizes = {len(value) for value in batch.values() if isinstance(value, Tensor)}
        if len(sizes) != 1 or min(sizes) % self.world_size:
            raise ValueError(
                f"{self.world_size} processes cannot share {' or '.join(map(str, sorted(sizes)))} rows evenly: give "
                f"every tensor of a batch the same number of rows, a multiple of {self.world_size}"
            )
        return {
            name: value.chunk(self.world_size)[self.rank] if isinstance(value, Tensor) else value  # a task's name
            for name, value in batch.items()
        }

    def sum(self, *values: Tensor) -> tuple[Tensor, ...]:
        together = torch.stack([value.double() for value in values])  # one message; counts stay exact to 2^53
        dist.all_reduce(together)
        return tuple(together)

    def sum_numbers(self, *values: float) -> tuple[float, ...]:
        return tuple(x.item() for x in self.sum(*map(torch.tensor, values)))

    def any(self, flag: bool) -> bool:
        # A tensor on the CPU travels by gloo, so the CPU does not wait for the GPU.
        return self.sum_numbers(float(flag))[0] > 0

    def save(self, path: Path, run: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        save_sharded(path.parent, path.stem, run=run, model=model, optimizer=optimizer)


class DDP(_Processes):
    """Every process holds the whole model and reads its share of the batch; gradients are averaged.

    Raises ValueError without a process group.
    """

    name = "ddp"

    def wrap(self, model: nn.Module) -> nn.Module:
        self._engine = DistributedDataParallel(model)  # copies the first process's weights to all
        return self._engine

    def micro_batch(self, *, last: bool) -> AbstractContextManager:
        """Gradients add up locally and travel once, after the last micro-batch."""
        return nullcontext() if last else self._engine.no_sync()


class FSDP(_Processes):
    """Every process keeps 1/n of each parameter, gradient and moment; a layer is put together while it computes.

    Gradients travel after every micro-batch, not only after the last: holding them back would mean to keep them
    whole, which is the memory that sharding saves. Raises ValueError before torch 2.6, and without a process group.
    """

    name = "fsdp"

    def __init__(self) -> None:
        if fully_shard is None:
            raise ValueError(f"parallel='fsdp' needs torch 2.6 or newer, and this is {torch.__version__}: use 'ddp'")
        super().__init__()

    def check(self, config: TrainConfig, runtime: Runtime) -> None:
        """Raise ValueError for Muon, which needs whole matrices, and float16, where one may skip a step alone."""
        if config.optimizer == "muon":
            raise ValueError("optimizer='muon' needs whole matrices, which FSDP cuts: use 'adamw', or DDP")
        if runtime.dtype == torch.float16:
            raise ValueError(
                "float16 under FSDP: a process whose shard overflows would skip a step that the others take; use "
                "dtype='bfloat16' or 'float32', or DDP"
            )

    def wrap(self, model: nn.Module) -> nn.Module:
        with torch.no_grad():
            for tensor in [*model.parameters(), *model.buffers()]:
                dist.broadcast(tensor, src=0)  # fully_shard cuts what it finds: all must start from one model
        device = next(model.parameters()).device.type
        mesh = init_device_mesh(device, (self.world_size,))
        for module in list(model.modules()):
            if isinstance(module, Block):
                fully_shard(module, mesh=mesh)
        return fully_shard(model, mesh=mesh)  # what lies outside the blocks: embeddings, last norm, head

    def restore(self, path: Path, run: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """As ``Parallel.restore``. Raises CheckpointError, too, for a checkpoint that one process wrote."""
        if path.is_file():
            raise CheckpointError(f"{path} was written by one process: resume it with parallel='ddp' or 'none'")
        super().restore(path, run, model, optimizer)

    def whole(self, value: Tensor) -> Tensor:
        return value.full_tensor() if isinstance(value, DTensor) else value


KINDS: dict[str, type[Parallel]] = {"none": Parallel, "ddp": DDP, "fsdp": FSDP}


def make_parallel(name: str) -> Parallel:
    """``"none"``, ``"ddp"`` or ``"fsdp"``. Raises ValueError for another name, or without a process group."""
    if name not in KINDS:
        raise ValueError(f"parallel={name!r} is not one of {', '.join(map(repr, KINDS))}")
    return KINDS[name]()
