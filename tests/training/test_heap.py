"""Memory that a step frees must be there for the next one, without another page fault."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from llmbook.training.heap import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():
    print("not glibc")
    sys.exit()

def step():
    return [torch.ones(1 << 20) for _ in range(8)]  # 32 MiB, freed when nobody takes them

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc, on Linux, can be told")
def test_freed_memory_is_kept():
    """Catches a setting glibc refuses or does not know, and one that is undone by glibc's own adjustment."""
    kept, returned = (
        subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True).stdout.strip()
        for mode in ("kept", "returned")
    )
    if kept == "not glibc":
        pytest.skip("the C library is not glibc")
    assert int(kept) < 100
    assert int(returned) > 5000
