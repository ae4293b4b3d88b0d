"""How the C library hands out memory to tensors on a CPU."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process reuse the memory of large tensors instead of giving it back each time.

    glibc maps everything above 32 MB anew and gives the top of its heap back: the system then hands
    out zeroed pages again for every layer, which took a third of the time of a large tile. Where
    the C library knows no ``mallopt`` nothing happens. For programs, not for libraries: it holds
    for the whole process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)  # a heap for each thread would keep memory for each
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
