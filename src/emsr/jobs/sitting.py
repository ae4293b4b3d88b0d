"""One sitting of a run: what is read, by what it is computed, where it goes, by whom."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch

from emsr.geometry.box import Triple
from emsr.jobs.bench import Bench
from emsr.jobs.cluster import LOCAL, dask
from emsr.jobs.execute import Run, in_process, workers
from emsr.jobs.holder import Anywhere, Slab
from emsr.jobs.listener import Listener
from emsr.jobs.model import Model
from emsr.volumes.flatten import is_flat
from emsr.volumes.place import Place
from emsr.volumes.source import Volume


@dataclass(frozen=True)
class Hands:
    """Who computes: this process, ``workers`` of them here, or the ``dask`` cluster at an address
    (``local`` starts one of ``workers`` processes, or two)."""

    workers: int | None = None
    dask: str | None = None
    threads: int | None = None
    """CPU threads of each network; None shares out those there are among the workers here."""


@dataclass
class Job:
    """One sitting of a run: what is read, by what it is computed, where it goes, by whom."""

    out: Place
    bench: Bench
    spacing_nm: tuple[float, float, float] | None
    hands: Hands
    slab: Slab | None
    listener: Listener
    began: float
    peaks: dict[str, int] = field(default_factory=dict)
    """Largest resident sets, by process."""
    input_hash: str | None = None
    """Once the whole input was read for it."""

    @property
    def store(self) -> Place:
        return store_of(self.out)

    @property
    def model(self) -> Model:
        return self.bench.model

    @property
    def volume(self) -> Volume:
        return self.bench.volume

    @property
    def shape(self) -> Triple:
        z, y, x = self.volume.shape
        s = self.model.header.scale
        return z, y * s, x * s


def store_of(out: Anywhere) -> Anywhere:
    """Where the shards go: one file is made from a store beside it, which is then removed."""
    return out.with_name(f".{out.name}.unfinished.ome.zarr") if is_flat(out) else out


def hands_of(job: Job) -> AbstractContextManager[Run]:
    hands, work = job.hands, job.bench.work_on
    count = hands.workers or (2 if hands.dask else 1)
    if hands.threads is None and (hands.workers or hands.dask == LOCAL):
        work = replace(work, threads=max(1, torch.get_num_threads() // count))
    if hands.dask:
        return dask(work, hands.dask, count, job.listener)
    return workers(work, count, job.listener) if hands.workers else in_process(job.bench)


def part(tiles: int, slab: Slab | None) -> range:
    """The tiles of a slab: those next to one another, so that they share what they read."""
    i, n = slab or (1, 1)
    return range((i - 1) * tiles // n, i * tiles // n)
