"""What one process needs to work on an output, and the tasks it can be given there.

    seen      read a tile's own LR voxels        digest them            say so
    tile      read them with their halo          upscale them           write the shard
    coarser   read the level below               average it             write the shard

Every task reads, works and writes, so that ``execute`` can let the three overlap. A task may be
done again, by anybody: it writes the same bytes.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import zarr

from emsr import __version__
from emsr.errors import InputError
from emsr.geometry.box import Box, OnDemand, Triple, blocks
from emsr.geometry.tiles import Tile, tile_shape
from emsr.jobs.form import Form, in_form
from emsr.jobs.identity import digest
from emsr.jobs.lanes import Lanes, lanes
from emsr.jobs.ledger import Pen, Seen, changed
from emsr.jobs.memory import peak_memory, slices_at_once
from emsr.jobs.model import Model, load, refuse_not_numbers
from emsr.network.allocator import keep_freed_memory
from emsr.recipe import Upscaling
from emsr.volumes import omezarr
from emsr.volumes.place import Place, place
from emsr.volumes.pyramid import block_mean
from emsr.volumes.source import Volume, open_volume

NO_MEMORY = ("out of memory", "can't allocate memory", "could not create a primitive")
"""Words of torch and of the convolutions below it when memory cannot be had."""


_OPENING = threading.Lock()
_COMPUTING = threading.Lock()
"""Held by the one thread that computes: two at once would share its cores and double its memory."""


class Task(NamedTuple):
    kind: Literal["seen", "tile", "coarser"]
    number: int
    """Of the tile, or of the shard of its level, in raster order."""
    level: int = 0
    expected: bytes = b""
    """Digest of the tile's own LR voxels, where it is to be what was seen of them."""
    whole: bool = False
    """Of a tile to be seen: read all that it is computed from, its halo too."""


class Outcome(NamedTuple):
    task: Task
    voxels: int
    clipped: int
    seen: Seen | None
    process: str
    peak_bytes: int
    read: bytes = b""
    """Digest of all that a tile is computed from, where that was asked for."""


@dataclass(frozen=True)
class Work:
    """What a run is, in words that another process understands (on a shared file system)."""

    lr: str
    spacing_nm: tuple[float, float, float] | None
    level: int
    model: str
    device: str
    precision: str
    upscaling: Upscaling
    form: Form
    threads: int | None
    """CPU threads of the network; None leaves them as they are."""
    store: str
    notes: str
    token: str
    untouched: str | None
    version: str = __version__


@dataclass(frozen=True)
class Bench:
    """One process at work. ``read``, ``work`` and ``write`` may run in three threads at once."""

    work_on: Work
    volume: Volume
    model: Model

    def read(self, task: Task) -> Any:
        with resumable(self.work_on.store):
            if task.kind == "coarser":
                _, below = self._finer(task)
                return omezarr.read_box(self._level(task.level - 1), below)
            if task.kind == "tile":
                lr = self._as_seen(task, self.model.read(self.volume, self.plan[task.number]))
                return self.model.upload(lr), digest(lr)
            core = self.plan[task.number].read if task.whole else self.cores[task.number]
            values = self.volume.read(core)
            refuse_not_numbers(self.volume.name, values, core.start[0])
            return values

    def work(self, task: Task, values: Any) -> Any:
        with resumable(self.work_on.store):
            if task.kind == "coarser":
                step, _ = self._finer(task)
                return block_mean(values, step)
            if task.kind == "tile":
                lr, read = values
                with _COMPUTING:
                    return self.model.begin(lr, self.plan[task.number], self.at_once), read
            own = values[self._own(task).slices] if task.whole else values
            return _look(own), digest(values) if task.whole else b""

    def write(self, task: Task, result: Any) -> Outcome:
        with resumable(self.work_on.store):
            if task.kind == "coarser":
                omezarr.write_box(self._level(task.level), self._shards(task), result)
                return _outcome(task)
            if task.kind == "tile":
                begun, read = result
                values, clipped = self.model.end(begun)
                self.pen.clipped(task.number, clipped, read)
                omezarr.write_box(self._level(0), self.plan[task.number].write, values)
                return _outcome(task, values.size, clipped)
            seen, read = result
            return _outcome(task, seen=seen)._replace(read=read)

    def perform(self, task: Task) -> Outcome:
        """A whole task, one step after the other."""
        return self.write(task, self.work(task, self.read(task)))

    def noting(self, notes: Place, token: str) -> Bench:
        """The bench for the output with this token, and its ledger."""
        lies = notes.absolute() if isinstance(notes, Path) else notes
        work = replace(self.work_on, notes=str(lies), token=token)
        return Bench(work, self.volume, self.model)

    def _as_seen(self, task: Task, values: np.ndarray) -> np.ndarray:
        """The values read for a tile; InputError where its own are not those seen before."""
        if task.expected and digest(values[self._own(task).slices]) != task.expected:
            raise changed(self.volume.name)
        return values

    def _own(self, task: Task) -> Box:
        """Where a tile's own voxels lie among those it is computed from."""
        return self.cores[task.number].inside(self.plan[task.number].read)

    @cached_property
    def plan(self) -> OnDemand[Tile]:
        return self.model.plan(self.volume, self.work_on.upscaling)

    @cached_property
    def cores(self) -> OnDemand[Box]:
        """The LR voxels of each tile without its halo."""
        return blocks(self.volume.shape, self.chunk)

    @cached_property
    def chunk(self) -> Triple:
        """LR voxels of a whole tile, and SR voxels of a chunk."""
        wanted = self.model.tile_px(self.work_on.upscaling)
        return tile_shape(self.volume.shape, wanted, self.model.network.multiple)

    @property
    def lanes(self) -> Lanes:
        return lanes(self.work_on.device, torch.get_num_threads())

    @cached_property
    def at_once(self) -> int:
        """Slices of a tile in one batch. InputError where the device cannot hold one."""
        return slices_at_once(self.model, self.chunk, self.work_on.upscaling)

    @cached_property
    def pen(self) -> Pen:
        return Pen(place(self.work_on.notes), self.work_on.token, self.work_on.untouched)

    @cached_property
    def levels(self) -> omezarr.Levels:
        """Those of the output; not to be asked for before it is laid out."""
        return omezarr.Levels(place(self.work_on.store))

    def _level(self, level: int) -> zarr.Array:
        return self.levels.array(level)

    def _shards(self, task: Task) -> Box:
        return self.levels.boxes(task.level)[task.number]

    def _finer(self, task: Task) -> tuple[Triple, Box]:
        return self.levels.finer(task.level, self._shards(task))


def open_bench(work: Work, device: str | None = None) -> Bench:
    """The input, the model and the output anew, as another process finds them."""
    if work.version != __version__:
        raise InputError(
            f"a worker has emsr {__version__}, the run was begun with {work.version}: install the "
            "same version everywhere"
        )
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    keep_freed_memory()
    found = open_volume(work.lr, work.spacing_nm, work.level)
    loaded = load(work.model, device or work.device, work.precision)
    return Bench(work, *in_form(found, loaded, work.form))


@lru_cache(maxsize=1)
def _kept(work: Work) -> Bench:
    return open_bench(work)


def perform(work: Work, task: Task) -> Outcome:
    """A task, in a process that others hand tasks to, several threads of it perhaps; the bench is
    opened once."""
    with _OPENING:
        bench = _kept(work)
        _ = bench.pen  # two of them would write over one another's notes
    return bench.perform(task)


def _look(values: np.ndarray) -> Seen:
    grey = values.astype(np.float64)
    squares = float(np.square(grey, out=np.empty_like(grey)).sum())
    return Seen(digest(values), values.size, float(grey.sum()), squares)


def _outcome(task: Task, voxels: int = 0, clipped: int = 0, seen: Seen | None = None) -> Outcome:
    return Outcome(task, voxels, clipped, seen, process_name(), peak_memory())


@lru_cache(maxsize=1)
def process_name() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


@contextmanager
def resumable(store: str) -> Iterator[None]:
    """Full disks and memory in one line: what is done stays."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{store} cannot be read or written: {error.strerror or error}; the tiles that are "
            "done stay: make space or correct the rights, and run the same again"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise InputError(
            f"{store}: memory ran out; the tiles that are done stay: free some and run the same "
            "again, or start anew with smaller tiles (--memory 4GB --overwrite)"
        ) from error


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in NO_MEMORY)
