"""The processes that compute the cells of a comparison: one thread each, one cell at a time.

A hand reads cells from its standard input and answers each with a line. It ends when that input
does, so none outlives the comparison that it works for; one that dies is replaced, and its cell
alone is lost. Run as a module, this file is such a hand.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from emsr.errors import InputError
from emsr.jobs.compare_cell import Cell, compute

Outcome = tuple[Cell, str | None]
"""A cell, and why it failed; None where it did not."""


def computed(phases: list[list[Cell]], folder: Path, jobs: int, device: str) -> Iterator[Outcome]:
    """Compute the cells, ``jobs`` at a time; a phase begins when the one before it has ended."""
    every = [_Hand(folder, device) for _ in range(jobs)]
    free: queue.SimpleQueue[_Hand] = queue.SimpleQueue()
    for hand in every:
        free.put(hand)

    def one(cell: Cell) -> Outcome:
        hand = free.get()
        try:
            return cell, hand.compute(cell)
        finally:
            free.put(hand)

    pool = ThreadPoolExecutor(jobs)
    try:
        for phase in phases:
            for future in as_completed([pool.submit(one, cell) for cell in phase]):
                yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for hand in every:
            hand.end()


class _Hand:
    """A process, started when it is first needed and again when it has died."""

    def __init__(self, folder: Path, device: str) -> None:
        self._place = (str(folder), device)
        self._process: subprocess.Popen[bytes] | None = None

    def compute(self, cell: Cell) -> str | None:
        process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((cell, *self._place), process.stdin)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line:
            answer: str | None = json.loads(line)
            return answer
        return f"its process died ({_death(self.end())}); run again to try it once more"

    def end(self) -> int:
        """The exit code of the process, 0 where there was none."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what a dead process did not read
                assert pipe is not None
                pipe.close()
        return process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "emsr.jobs.compare_hands"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **one},
        )
        return self._process


def _death(code: int) -> str:
    return f"signal {-code}, perhaps out of memory" if code < 0 else f"exit code {code}"


def _work() -> None:
    torch.set_num_threads(1)
    orders: queue.SimpleQueue[tuple[Cell, str, str]] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    while True:
        answers.write(json.dumps(_answer(*orders.get())) + "\n")
        answers.flush()


def _listen(orders: queue.SimpleQueue[Any]) -> None:
    """Cells from standard input; at its end the process ends, whatever it is computing."""
    with suppress(EOFError):
        while True:
            orders.put(pickle.load(sys.stdin.buffer))
    os._exit(0)


def _answer(cell: Cell, folder: str, device: str) -> str | None:
    try:
        compute(cell, Path(folder), device)
    except InputError as error:
        return " ".join(str(error).split())
    except Exception as error:
        log = Path(folder) / "work" / f"{cell.key}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(traceback.format_exc())
        return f"a bug of ours ({type(error).__name__}); please report it with {log}"
    return None


if __name__ == "__main__":
    _work()
