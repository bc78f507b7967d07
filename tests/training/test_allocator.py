"""Memory that a step frees must stay in the process, for the next step to take. What glibc says of itself is compared,
not page faults: those depend on the kernel and on where a block happens to lie."""

import subprocess
import sys

import pytest

BLOCK = 24 << 20  # bytes; glibc takes a block of this size from the system, unless told otherwise

STEP = """
import ctypes, sys
import torch
from llmbook.training.allocator import keep_freed_memory

class Statistics(ctypes.Structure):  # mallinfo2(3), in its order
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

try:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
except AttributeError:
    print("no mallinfo2")
    sys.exit()
mallinfo2.restype = Statistics

block = int(sys.argv[2])
if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = mallinfo2()
blocks = [torch.ones(block // 4) for _ in range(2)]
alive = mallinfo2()
del blocks
after = mallinfo2()
print(alive.hblkhd - before.hblkhd, after.fordblks - before.fordblks)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc, on Linux, can be told")
def test_freed_memory_is_kept():
    """Catches a setting glibc refuses or does not know."""
    said = [
        subprocess.run(
            [sys.executable, "-c", STEP, mode, str(BLOCK)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for mode in ("kept", "returned")
    ]
    if "no mallinfo2" in said:
        pytest.skip("the C library is not glibc, or older than 2.33")
    (from_system, left), (otherwise, returned) = ([int(number) for number in line.split()] for line in said)
    assert from_system < BLOCK, "a block came from the system, and goes back there"
    assert left > 1.9 * BLOCK, "what was freed did not stay"
    assert otherwise >= 2 * BLOCK, "glibc takes such blocks from the heap anyway"
    assert returned < BLOCK, "glibc keeps them anyway"
