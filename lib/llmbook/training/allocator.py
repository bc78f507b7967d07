"""Keeping the memory of one step for the next, on Linux.

Every step allocates what the one before it has just freed: activations and their gradients. The C library returns large
freed blocks to the system and asks for them again a moment later; each page then comes back zeroed, at its first touch.
A small model meets thousands of such page faults a step.
"""

import ctypes

# mallopt(3) of glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 1 << 30  # bytes that may lie free at the end of the heap
LARGEST = 32 << 20  # bytes of the largest block taken from the heap, glibc's own limit; larger ones are always returned


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed for what is allocated next; True if it understood.

    It holds for the whole process and to its end: the process stays as large as its largest step made it, up to a
    gigabyte. Where the C library is not glibc (macOS, Windows, Alpine) nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT) and mallopt(M_MMAP_THRESHOLD, LARGEST))
