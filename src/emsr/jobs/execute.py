"""Who works off the tasks of a run: this process, several processes here, or a dask cluster.

All of them give the outcomes of tasks as they come; what is on disk is the same, whoever wrote it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from emsr.errors import InputError
from emsr.jobs.bench import Bench, Outcome, Task, Work, open_bench
from emsr.jobs.lanes import Lanes, lanes
from emsr.jobs.listener import Listener

Run = Callable[[Iterable[Task]], Iterator[Outcome]]
"""Works off tasks, in any order, and gives the outcome of each."""

TO_COME = 1  # tasks that a worker knows of beside those it reads, computes and writes


@contextmanager
def in_process(bench: Bench) -> Iterator[Run]:
    yield partial(worked_off, bench)


def worked_off(bench: Bench, tasks: Iterable[Task]) -> Iterator[Outcome]:
    """Tasks of one kind. Before a GPU the cores are free for those that it has no part in; on a CPU
    they gain nothing by it, and take more memory."""
    coming = iter(tasks)
    if (first := next(coming, None)) is not None:
        apart = bench.work_on.device != "cpu" and first.kind != "tile"
        how = side_by_side if apart else overlapped
        yield from how(bench, chain([first], coming), bench.lanes)


def side_by_side(bench: Bench, tasks: Iterable[Task], lanes: Lanes) -> Iterator[Outcome]:
    """Whole tasks, several at a time: for those that no network has to see."""
    coming, under_way = iter(tasks), deque[Future]()
    with ThreadPoolExecutor(lanes.tiles) as pool:
        while True:
            wanted = islice(coming, 2 * lanes.tiles - len(under_way))
            under_way.extend(pool.submit(bench.perform, task) for task in wanted)
            if not under_way:
                return
            yield under_way.popleft().result()


def overlapped(bench: Bench, tasks: Iterable[Task], lanes: Lanes) -> Iterator[Outcome]:
    """Read the next tasks' voxels and write the last ones' while this one's are computed: at most
    ``lanes.tiles`` of them are in memory."""
    coming = iter(tasks)
    reading: deque[tuple[Task, Future]] = deque()
    writing: deque[Future] = deque()
    with ThreadPoolExecutor(lanes.readers) as reader, ThreadPoolExecutor(lanes.writers) as writer:

        def read_next() -> None:
            if (task := next(coming, None)) is not None:
                reading.append((task, reader.submit(bench.read, task)))

        for _ in range(lanes.readers):
            read_next()
        while reading:
            task, values = reading.popleft()
            found = values.result()
            del values
            read_next()
            result = bench.work(task, found)
            del found
            if len(writing) >= lanes.writers:
                yield writing.popleft().result()
            writing.append(writer.submit(bench.write, task, result))
            del result
        while writing:
            yield writing.popleft().result()


@dataclass
class _Worker:
    number: int
    process: Any
    pipe: Connection
    outstanding: int
    tasks: list[Task] = field(default_factory=list)


@contextmanager
def workers(work: Work, count: int, listener: Listener) -> Iterator[Run]:
    """``count`` processes on this machine, each with a network of its own; on GPUs, in turn."""
    context = multiprocessing.get_context("spawn")
    crew: list[_Worker] = []
    knows = lanes(work.device, work.threads or torch.get_num_threads()).tiles + TO_COME
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            arguments = (replace(work, device=nth_device(work.device, number)), theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            with deaf():
                process.start()
            theirs.close()
            crew.append(_Worker(number + 1, process, ours, knows))
        yield partial(_shared_out, crew, listener)
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


@contextmanager
def deaf() -> Iterator[None]:
    """What is started within does not hear the terminal's interrupt, not even while it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's affair
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        # None: a handler that was not set by Python.
        signal.signal(signal.SIGINT, signal.SIG_DFL if heard is None else heard)


def nth_device(device: str, number: int) -> str:
    """The device of the ``number``-th process here: GPUs in turn, unless one was named."""
    return f"cuda:{number % torch.cuda.device_count()}" if device == "cuda" else device


def _shared_out(
    crew: list[_Worker], listener: Listener, tasks: Iterable[Task]
) -> Iterator[Outcome]:
    """Hand tasks out and take outcomes in; the tasks of a worker that dies go to the others."""
    coming, back = iter(tasks), deque[Task]()
    while True:
        for worker in list(crew):
            _hand_out(worker, coming, back)
        busy = [worker for worker in crew if worker.tasks]
        if not busy:
            return
        for pipe in wait([worker.pipe for worker in busy]):
            worker = next(one for one in busy if one.pipe is pipe)
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                _bury(worker, crew, back, listener)
                continue
            if isinstance(message, Outcome):
                worker.tasks.remove(message.task)
                yield message
            else:
                raise _raised(*message)


def _hand_out(worker: _Worker, coming: Iterator[Task], back: deque[Task]) -> None:
    while len(worker.tasks) < worker.outstanding:
        task = back.popleft() if back else next(coming, None)
        if task is None:
            return
        worker.tasks.append(task)
        with suppress(OSError):  # it is dead, which reading from it will tell
            worker.pipe.send(task)


def _bury(worker: _Worker, crew: list[_Worker], back: deque[Task], listener: Listener) -> None:
    worker.process.join()
    crew.remove(worker)
    back.extend(worker.tasks)
    code = worker.process.exitcode
    how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
    if not crew:
        raise InputError(
            f"no worker is left (the last one ended: {how}); the tiles that are done stay: run "
            "the same again, with fewer --workers or a smaller --memory if memory ran out"
        )
    listener.say(f"worker {worker.number} ended ({how}); its tiles go to the {len(crew)} left")


def _raised(kind: str, said: str) -> Exception:
    return InputError(said) if kind == "input" else RuntimeError(f"in a worker:\n{said}")


def _serve(work: Work, pipe: Connection) -> None:
    """The life of a worker process: whatever tasks are at hand, overlapped, then the next ones."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's: the parent sees to its workers
    _die_with_parent()
    try:
        bench = open_bench(work)
        while True:
            first = pipe.recv()
            for outcome in worked_off(bench, chain([first], _at_hand(pipe))):
                pipe.send(outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except InputError as error:
        pipe.send(("input", str(error)))
    except Exception:
        pipe.send(("bug", traceback.format_exc()))


def _at_hand(pipe: Connection) -> Iterator[Task]:
    while pipe.poll():
        yield pipe.recv()


def _die_with_parent() -> None:
    """A killed run is not to leave workers behind that go on writing."""
    parent = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)
