"""Reading and writing the boxes of one level of an output, and which of its shards are stored.

A shard is written whole, under a temporary name, and renamed; on object storage it is put, which is
all or nothing: if it exists, it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, Store

from emsr.geometry.box import Box, Triple
from emsr.volumes.cloud_write import writing
from emsr.volumes.place import Place, Remote, place, spoken

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype


def open_level(path: str | Place, level: int) -> zarr.Array:
    """The (z, y, x) array of a level, to write shards to."""
    folder = place(path) / str(level)
    with spoken(folder) if isinstance(folder, Remote) else nullcontext():
        store = folder.store if isinstance(folder, Remote) else str(folder)
        array = zarr.open_array(store, mode="r+", zarr_format=3)
    # a shard of zeros must be stored too: one that is absent counts as not done
    return array.with_config({"write_empty_chunks": True})


def write_box(array: zarr.Array, box: Box, values: np.ndarray) -> None:
    """Write whole shards. ValueError where ``box`` cuts through one: each has a single writer."""
    _refuse_unaligned(array, box)
    if values.shape != box.shape or values.dtype != array.dtype:
        raise ValueError(
            f"{values.shape} {values.dtype} for a box of {box.shape}, {array.dtype} expected"
        )
    url = _url(array)
    with writing(url) if url else nullcontext():
        _unread(array)[box.slices] = values


def read_box(array: zarr.Array, box: Box) -> np.ndarray:
    """Voxels of a level, whose shards must have been written."""
    url = _url(array)
    with spoken(url) if url else nullcontext():
        values = np.asarray(_to_whole_shards(array)[_past_the_edge(array, box)])
    return values[tuple(map(slice, box.shape))]


def _to_whole_shards(array: zarr.Array) -> zarr.Array:
    """The array as if no shard of it were cut off by its far edges: of one that is, zarr asks for
    each chunk, where one request gets them all."""
    sides = zip(array.shape, shard_of(array), strict=True)
    core = array.async_array
    wider = core.metadata.update_shape(tuple(-(-n // s) * s for n, s in sides))
    return zarr.Array(zarr.AsyncArray(wider, core.store_path, array.config))


def _past_the_edge(array: zarr.Array, box: Box) -> tuple[slice, ...]:
    """A box that, where it ends with the array, takes in the rest of the shards there."""
    sides = zip(box.start, box.stop, array.shape, shard_of(array), strict=True)
    return tuple(slice(a, -(-b // s) * s if b == n else b) for a, b, n, s in sides)


class _NothingStored(zarr.storage.WrapperStore[Store]):
    """Seems empty to who reads it."""

    async def get(
        self,
        key: str,  # noqa: ARG002
        prototype: BufferPrototype,  # noqa: ARG002
        byte_range: ByteRequest | None = None,  # noqa: ARG002
    ) -> Buffer | None:
        return None


def _unread(array: zarr.Array) -> zarr.Array:
    """The array to write whole shards to: zarr looks for what a shard holds before it writes one,
    which costs two requests each, and nothing of it is kept."""
    where = zarr.storage.StorePath(_NothingStored(array.store), array.path)
    core = array.async_array
    return zarr.Array(zarr.AsyncArray(core.metadata, where, array.config))


def _url(array: zarr.Array) -> str:
    """Of an array on object storage, whose errors are told in one line; files raise their own."""
    return f"s3://{array.store.path}" if isinstance(array.store, zarr.storage.FsspecStore) else ""


def is_written(array: zarr.Array, box: Box) -> bool:
    """Whether every shard of ``box`` is on disk, and so complete."""
    root = Path(array.store.root) / array.path  # type: ignore[attr-defined]
    keys = map(array.metadata.encode_chunk_key, product(*_shards_of(array, box)))
    return all((root / key).is_file() for key in keys)


def written(folder: Place, array: zarr.Array) -> Callable[[Box], bool]:
    """Tells whether every shard of a box of the level in ``folder`` is stored, and so complete.
    Object storage is listed once, now; a byte is kept of each shard."""
    if isinstance(folder, Path):
        return lambda box: is_written(array, box)
    below = (one.place.key.removeprefix(f"{folder.key}/") for one in (folder / "c").below())
    there = stored(array, below)

    def is_there(box: Box) -> bool:
        return bool(there[tuple(slice(r.start, r.stop) for r in _shards_of(array, box))].all())

    return is_there


def stored(array: zarr.Array, keys: Iterable[str]) -> np.ndarray:
    """Which shards have their key among ``keys``, in their grid (z, y, x), as bool."""
    sides = zip(array.shape, shard_of(array), strict=True)
    there = np.zeros(tuple(-(-n // s) for n, s in sides), bool)
    for key in keys:
        index = _index(key)
        inside = len(index) == 3 and all(i < n for i, n in zip(index, there.shape, strict=True))
        if inside and array.metadata.encode_chunk_key(index) == key:
            there[index] = True
    return there


def _index(key: str) -> tuple[int, ...]:
    """That of a shard in its grid, if the key is one of a shard."""
    digits = key.split("/")[1:]
    return tuple(map(int, digits)) if all(map(str.isdecimal, digits)) else ()


def shard_of(array: zarr.Array) -> Triple:
    """Voxels (z, y, x) of a whole shard."""
    return triple(array.shards or array.chunks)


def _shards_of(array: zarr.Array, box: Box) -> list[range]:
    """Those of a box, along z, y and x of their grid."""
    _refuse_unaligned(array, box)
    sides = zip(box.start, box.stop, shard_of(array), strict=True)
    return [range(a // s, -(-b // s)) for a, b, s in sides]


def _refuse_unaligned(array: zarr.Array, box: Box) -> None:
    """ValueError where a box cuts through a shard."""
    for a, b, s, n in zip(box.start, box.stop, shard_of(array), array.shape, strict=True):
        if a % s or (b % s and b != n) or b > n:
            raise ValueError(
                f"{box} does not cover whole shards of {shard_of(array)} in {array.shape}"
            )


def triple(values: tuple[int, ...]) -> Triple:
    z, y, x = values
    return z, y, x
