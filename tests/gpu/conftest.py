"""Every test here takes a ``device``: it runs on the CPU everywhere, and once more on a GPU where there is one.

`make gpu-test` asks for the second kind alone, and where there is no GPU runs it on the pretended one
(``pretended/pretended_gpu``). What holds on the CPU too is thereby code that has run.
"""

import pytest
import torch

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here")

PRETENDED = torch.cuda.is_available() and torch.cuda.get_device_name().endswith("(pretended)")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def sixteen_bits(device) -> torch.dtype:
    """bfloat16, or float16 on a GPU too old for it (a T4)."""
    if device.type == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        return torch.float16
    return torch.bfloat16


@pytest.fixture
def nccl(device, monkeypatch) -> None:
    """A group of one process on the device; the pretended GPU has no NCCL, and takes another."""
    if device.type == "cuda" and PRETENDED:
        from pretended_gpu import nccl

        nccl.stand_in(monkeypatch)
