"""How many threads of a process read, and how many write, beside the one that computes."""

from __future__ import annotations

from typing import NamedTuple

MOST_WRITERS = 8
"""Threads that compress in front of a GPU: more of them would only hold more tiles in memory."""


class Lanes(NamedTuple):
    readers: int
    writers: int

    @property
    def tiles(self) -> int:
        """Most tiles in memory at once."""
        return self.readers + 1 + self.writers


def lanes(device: str, threads: int) -> Lanes:
    """For a process on ``device`` (as torch calls it) that may keep ``threads`` cores busy.

    On a CPU the cores compute. Compression, of one chunk after the other, is the slow part of
    writing; before a GPU it is the slow part of everything.
    """
    if device == "cpu":
        return Lanes(readers=1, writers=2)
    return Lanes(readers=2, writers=min(max(threads, 2), MOST_WRITERS))
