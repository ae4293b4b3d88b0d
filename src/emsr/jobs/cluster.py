"""The tasks of a run on dask.distributed: workers anywhere that see input, model and output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from emsr.errors import InputError
from emsr.jobs.bench import Outcome, Task, Work, perform
from emsr.jobs.execute import Run, deaf, nth_device
from emsr.jobs.lanes import lanes
from emsr.jobs.listener import Listener
from emsr.volumes.extras import needed

LOCAL = "local"
ANSWER_S = 5
OUTSTANDING = 256  # tasks the scheduler knows of, at least; adaptive clusters grow by their number
TRIES = 5  # deaths of workers that a task survives


def _perform_here(work: Work, task: Task) -> Outcome:
    """On a cluster that we started: its workers are numbered, and see all GPUs alike."""
    from distributed import get_worker

    return perform(replace(work, device=nth_device(work.device, int(get_worker().name))), task)


@contextmanager
def dask(work: Work, address: str, count: int, listener: Listener) -> Iterator[Run]:
    """The workers of the scheduler at ``address``, or ``count`` processes here for ``local``."""
    distributed = _distributed()
    with (
        _cluster(distributed, count, _threads(work))
        if address == LOCAL
        else _client(distributed, address) as client
    ):
        if not client.scheduler_info()["workers"]:
            listener.say(f"{address} has no workers yet: waiting for them")
        doing = _perform_here if address == LOCAL else perform
        yield partial(_mapped, distributed, client, partial(doing, work))


def _distributed() -> Any:
    """The package, told to keep to itself what we say in one line; so are the workers it starts."""
    config = needed("dask", "dask", "--dask").config
    quiet = {"logging.distributed": "critical", "distributed.scheduler.allowed-failures": TRIES}
    config.set(quiet)
    distributed = needed("distributed", "dask", "--dask")
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return distributed


def _threads(work: Work) -> int:
    """Tasks that a worker here has under way: one is computed, the others are read and written.
    Where the cores compute, more than one gains nothing and takes memory."""
    return 1 if work.device == "cpu" else lanes(work.device, work.threads or 1).tiles


@contextmanager
def _cluster(distributed: Any, count: int, threads: int) -> Iterator[Any]:
    with deaf():
        cluster = distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=threads,
            processes=True,
            memory_limit=0,  # the tile bounds it
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    with cluster, distributed.Client(cluster) as client:
        yield client


@contextmanager
def _client(distributed: Any, address: str) -> Iterator[Any]:
    try:
        client = distributed.Client(address, timeout=ANSWER_S)
    except Exception as error:  # refused, silent, not an address: each raises its own
        raise InputError(
            f"no dask scheduler answers at {address} within {ANSWER_S} s: check host and port, "
            "such as tcp://10.0.0.1:8786, or start one with dask scheduler"
        ) from error
    with client:
        yield client


def _mapped(
    distributed: Any, client: Any, perform: Callable[[Task], Outcome], tasks: Iterable[Task]
) -> Iterator[Outcome]:
    coming, done = iter(tasks), distributed.as_completed()
    try:
        done.update([_submit(client, perform, task) for task in islice(coming, OUTSTANDING)])
        for future in done:
            yield future.result()
            done.update([_submit(client, perform, task) for task in islice(coming, 1)])
    except distributed.KilledWorker as error:
        raise InputError(
            f"dask workers died {TRIES + 1} times over one tile, of memory perhaps: the tiles "
            "that are done stay; give workers more memory, or start anew with a smaller --memory"
        ) from error
    except (OSError, distributed.CancelledError) as error:
        raise InputError(
            "the dask scheduler is gone; the tiles that are done stay: run the same again"
        ) from error


def _submit(client: Any, perform: Callable[[Task], Outcome], task: Task) -> Any:
    return client.submit(perform, task, pure=False)
