"""Batches drawn while the network computes on those before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

DEPTH = 2
"""Batches that wait, at most: more only take memory where drawing is the slower of the two."""


@contextmanager
def ahead(draw: Callable[[int], T], depth: int = DEPTH) -> Iterator[Callable[[int], T]]:
    """``draw`` with steps ``k + 1`` to ``k + depth`` drawn in a thread as soon as step k is taken.

    What a step is given is ``draw(step)``, in whatever order steps are asked for: another one than
    the next only costs what was drawn for nothing. What ``draw`` raises is raised where its step is
    taken. On leaving, whatever the reason, the thread ends with the batch that it is drawing.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="emsr-draw")
    waiting: dict[int, Future[T]] = {}

    def take(step: int) -> T:
        wanted = range(step, step + depth + 1)
        for gone in waiting.keys() - set(wanted):
            waiting.pop(gone).cancel()
        for k in wanted:
            if k not in waiting:
                waiting[k] = pool.submit(draw, k)
        return waiting.pop(step).result()

    try:
        yield take
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
