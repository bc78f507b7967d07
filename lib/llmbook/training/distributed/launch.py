"""Processes that know of each other: what torchrun has prepared, joined into a process group."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist


@contextmanager
def process_group(*, timeout_minutes: float = 30) -> Iterator[None]:
    """Join the group torchrun has started, or make a group of this process alone; leave it at the end.

    Each process takes the GPU of its number on this machine. Tensors on GPUs travel by NCCL, those on the CPU by gloo.
    ``timeout_minutes``: how long a process waits for the others before it gives up.
    """
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    timeout = timedelta(minutes=timeout_minutes)
    if launched():
        dist.init_process_group(backend, timeout=timeout)
    else:
        dist.init_process_group(backend, timeout=timeout, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def launched() -> bool:
    """Whether torchrun has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ
