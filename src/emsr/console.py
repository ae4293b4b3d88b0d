"""What a person at a terminal sees while a job runs: one progress line on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from emsr.jobs.listener import Listener


@contextmanager
def listening(quiet: bool, said: list[str]) -> Iterator[Listener]:
    """A listener that shows counted work as bars with the time left, and facts as lines, which it
    also appends to ``said``; ``quiet`` only does the latter."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def show(line: str) -> None:
        console.print(f"emsr: {line}", markup=False)

    def say(line: str) -> None:
        said.append(line)
        if not quiet:
            show(line)

    if quiet:
        yield Listener(say=say)
        return
    if not console.is_terminal:
        yield Listener(_log_progress(show), say)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int, note: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, completed=done, note=note)
            bars.update(tasks[what], completed=done, total=total, note=note)

        yield Listener(progress, say)


def _log_progress(show: Callable[[str], None]) -> Callable[[str, int, int, str], None]:
    """Progress for a log file: a line every quarter of a minute, and one at the end of a job."""
    began: dict[str, float] = {}
    last = time.monotonic()

    def progress(what: str, done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        began.setdefault(what, now)
        if now - last < 15 and done < total:
            return
        last = now
        left = (now - began[what]) * (total - done) / max(done, 1)
        show(f"{what} {done}/{total}, {left:.0f} s left {note}".rstrip())

    return progress
