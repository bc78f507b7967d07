"""NCCL of one process: torch's own group of threads, from its tests, stands in for it."""

import pytest


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``init_process_group("nccl")`` make a group that one process of the pretended GPU can be in."""
    import torch.distributed as dist
    from torch._C._distributed_c10d import Logger
    from torch.testing._internal.distributed import multi_threaded_pg  # noqa: F401  registers "threaded"

    plain = dist.init_process_group
    monkeypatch.setattr(
        dist, "init_process_group", lambda backend, **options: plain(backend.replace("nccl", "threaded"), **options)
    )
    monkeypatch.setattr(Logger, "set_runtime_stats_and_log", lambda self: None)  # it wants a timer of CUDA's
