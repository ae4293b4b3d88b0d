"""The steps of a sitting, each a list of tasks that are worked off, with what is known noted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from emsr.jobs.bench import Outcome, Task, resumable
from emsr.jobs.execute import Run
from emsr.jobs.holder import notes_of
from emsr.jobs.ledger import UNKNOWN, Ledger, Seen
from emsr.jobs.sitting import Job


def read_ledger(job: Job, ledger: Ledger) -> None:
    work = job.bench.work_on
    ledger.read(notes_of(job.out), work.token, work.untouched)


def see(job: Job, hands: Run, ledger: Ledger, tiles: range) -> int:
    """Read the LR voxels of tiles that were not read, or may have changed since: InputError where
    they did, or are not numbers. Nothing is computed before, and only what holds is noted.

    Of tiles that are written the halo is read too: the input may have been another one for a while,
    beside them, and be back. Returns how many tiles are to be computed again for it.
    """
    new = [n for n in tiles if not ledger.current[n]]
    tasks = (Task("seen", n, whole=bool(ledger.clipped[n] != UNKNOWN)) for n in new)
    stale = 0
    for outcome in _counted(job, "read input", hands, tasks, len(new)):
        if outcome.seen:
            stale += _noted(job, ledger, outcome, outcome.seen)
    if new and job.bench.work_on.notes:
        with resumable(str(job.store)):
            job.bench.pen.flush()
    if stale:
        job.listener.say(f"{stale} tiles were computed from another input: they are done again")
    if new:
        _say_unlike(job, ledger)
    return stale


def _noted(job: Job, ledger: Ledger, outcome: Outcome, seen: Seen) -> bool:
    """Note what was seen of a tile; whether it has to be computed again."""
    tile = outcome.task.number
    ledger.note(tile, seen, job.volume.name)
    stale = bool(outcome.read) and ledger.is_stale(tile, outcome.read)
    if stale:
        ledger.clipped[tile] = UNKNOWN
    if job.bench.work_on.notes:
        with resumable(str(job.store)):
            job.bench.pen.seen(tile, seen)
            if stale:
                job.bench.pen.void(tile)
    return stale


def write_tiles(job: Job, hands: Run, ledger: Ledger, tiles: range) -> list[int]:
    """Compute and write the tiles that are missing; returns their numbers."""
    missing = missing_tiles(job, ledger, tiles)
    if there := len(tiles) - len(missing):
        job.listener.say(f"going on: {there} of {len(tiles)} tiles are there already")
    tasks = (Task("tile", n, expected=ledger.digests[n].tobytes()) for n in missing)
    for outcome in _counted(job, "upscale", hands, tasks, len(missing)):
        ledger.clipped[outcome.task.number] = outcome.clipped
    return missing


def missing_tiles(job: Job, ledger: Ledger, tiles: range) -> list[int]:
    is_there, plan = job.bench.levels.written(0), job.bench.plan
    return [n for n in tiles if ledger.clipped[n] == UNKNOWN or not is_there(plan[n].write)]


def pyramid(job: Job, hands: Run) -> None:
    """Build the coarser levels, each from the one below it, where shards are missing."""
    levels = job.bench.levels
    for level in range(1, len(levels)):
        is_there = levels.written(level)
        missing = [n for n, box in enumerate(levels.boxes(level)) if not is_there(box)]
        tasks = (Task("coarser", n, level) for n in missing)
        for _ in _counted(job, f"level {level}", hands, tasks, len(missing)):
            pass


def _counted(
    job: Job, what: str, hands: Run, tasks: Iterable[Task], count: int
) -> Iterator[Outcome]:
    """The outcomes of ``count`` tasks, with progress and the memory of who did them."""
    if not count:
        return
    began, voxels = time.monotonic(), 0
    for done, outcome in enumerate(hands(tasks), 1):
        job.peaks[outcome.process] = outcome.peak_bytes
        voxels += outcome.voxels
        rate = voxels / (time.monotonic() - began) / 1e6
        job.listener.progress(what, done, count, f"{rate:.2f} million voxels/s" if voxels else "")
        yield outcome


def _say_unlike(job: Job, ledger: Ledger) -> None:
    """A warning where the input's greys can hardly be those of the scans trained on."""
    mean, spread = ledger.mean_and_spread
    low, high = sorted(job.model.header.lr_window)
    if not low <= mean <= high or spread < 0.01 * (high - low):
        job.listener.say(
            f"warning: {job.volume.name} has grey values of mean {mean:.4g} and spread "
            f"{spread:.2g}, the model was trained on {low:.4g} to {high:.4g}: another grey scale?"
        )
