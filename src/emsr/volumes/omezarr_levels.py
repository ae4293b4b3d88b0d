"""The levels of an output: their boxes, and how each is made of the one below it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import zarr

from emsr.geometry.box import Box, OnDemand, Triple, blocks
from emsr.volumes.omezarr_boxes import (
    open_level,
    read_box,
    shard_of,
    triple,
    write_box,
    written,
)
from emsr.volumes.omezarr_state import state_there
from emsr.volumes.place import Place, place
from emsr.volumes.pyramid import block_mean, finer_box


@dataclass(frozen=True)
class Levels:
    """The levels of the store at ``path``, each read once, when it is first asked for: on object
    storage whoever asks again for every shard does little else. Several threads may ask.

    For the work of one process on one output: what lies there after an --overwrite has levels of
    its own.
    """

    path: Place

    def __len__(self) -> int:
        return len(self._factors)

    def array(self, level: int) -> zarr.Array:
        """The (z, y, x) array of a level, to read boxes from and write them to."""
        if level not in self._arrays:
            self._arrays[level] = open_level(self.path, level)
        return self._arrays[level]

    def boxes(self, level: int) -> OnDemand[Box]:
        """The boxes to write at a level, one for each shard."""
        array = self.array(level)
        return blocks(triple(array.shape), shard_of(array))

    def finer(self, level: int, box: Box) -> tuple[Triple, Box]:
        """Voxels of the level below along one of ``level``, and those that ``box`` averages."""
        coarse, fine = self._factors[level], self._factors[level - 1]
        step = triple(tuple(a // b for a, b in zip(coarse, fine, strict=True)))
        return step, finer_box(box, step, triple(self.array(level - 1).shape))

    def written(self, level: int) -> Callable[[Box], bool]:
        """Tells whether every shard of a box of the level is stored, and so complete. Object
        storage is listed once, now."""
        return written(self.path / str(level), self.array(level))

    @cached_property
    def _factors(self) -> list[list[int]]:
        factors: list[list[int]] = state_there(self.path)["levels"]
        return factors

    @cached_property
    def _arrays(self) -> dict[int, zarr.Array]:
        return {}


def level_count(path: str | Place) -> int:
    """How many levels the store has."""
    return len(Levels(place(path)))


def shard_boxes(path: str | Place, level: int) -> OnDemand[Box]:
    """The boxes to write at a level, one for each shard."""
    return Levels(place(path)).boxes(level)


def build_shard(path: str | Place, level: int, box: Box) -> None:
    """Write one shard of ``level`` (1, 2, ...) as the area average of the level below.

    Every shard of the level below that it covers must have been written.
    """
    levels = Levels(place(path))
    step, below = levels.finer(level, box)
    values = read_box(levels.array(level - 1), below)
    write_box(levels.array(level), box, block_mean(values, step))
