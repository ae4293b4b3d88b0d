"""A finished OME-Zarr store as one file of another format, block by block: TIFF, MRC, HDF5."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import blocks
from emsr.volumes import hdf5_write, mrc_write, omezarr, tiff
from emsr.volumes.place import Place
from emsr.volumes.slices import TIFF_SUFFIXES
from emsr.volumes.source import open_volume
from emsr.volumes.zarrs import open_zarr

MRC_SUFFIX = ".mrc"
HDF5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (*TIFF_SUFFIXES, MRC_SUFFIX, *HDF5_SUFFIXES)
_TILE_MULTIPLE = 16  # TIFF wants tile sides in multiples of it
Part = TypeVar("Part")
Progress = Callable[[int, int], None]
"""Hears how many parts are done, and of how many."""


def _unheard(*_: int) -> None:
    return None


def is_flat(path: Place) -> bool:
    """Whether an output of that name is one file, made from a store."""
    return path.suffix.lower() in SUFFIXES


def flatten(
    store: Path,
    out: Path,
    tile_px: int,
    software: str,
    progress: Progress = _unheard,
) -> None:
    """Write level 0 of a finished store to ``out``, in the format of its suffix, and what made it.

    A TIFF has square tiles of ``tile_px`` (rounded up to 16), an HDF5 data set the store's chunks.
    One tile or shard is in memory at a time; ``progress`` hears how many are done, of how many.
    InputError where the store is unfinished.
    """
    suffix = out.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        omezarr_to_tiff(store, out, tile_px, software=software, progress=progress)
        return
    volume, boxes = open_zarr(store, 0), omezarr.shard_boxes(store, 0)
    parts = ((box, volume.read(box)) for box in boxes)
    about = (_told(parts, len(boxes), progress), volume.shape, volume.dtype, volume.spacing_nm)
    if suffix == MRC_SUFFIX:
        mrc_write.write_mrc(out, *about, software)
    else:
        z, y, x = omezarr.open_level(store, 0).chunks
        hdf5_write.write_hdf5(out, *about, (z, y, x), software)


def software_of(path: Path) -> str | None:
    """What a file of these formats says made it; None where it says nothing, or is damaged."""
    suffix = path.suffix.lower()
    reader: Callable[[Path], str | None] = tiff.software_of
    if suffix == MRC_SUFFIX:
        reader = mrc_write.software_of
    elif suffix in HDF5_SUFFIXES:
        reader = hdf5_write.software_of
    try:
        open_volume(path)  # one that was cut later is not finished
        return reader(path)
    except (InputError, OSError, KeyError, ValueError, RuntimeError):
        return None


def refuse_dtype(path: Place, dtype: str) -> str | None:
    """InputError where the format of ``path`` cannot hold ``dtype``; else what is to be said."""
    suffix = path.suffix.lower()
    held: np.dtype | None = np.dtype(dtype)
    name = "TIFF" if suffix in TIFF_SUFFIXES else "MRC"
    if suffix in TIFF_SUFFIXES:
        held = np.dtype(dtype) if dtype in tiff.HOLDS else None
    elif suffix == MRC_SUFFIX:
        held = mrc_write.stored_as(dtype)
    if held is None:
        raise InputError(
            f"{path}: {name} cannot hold {dtype}, the output's dtype: choose another with --dtype, "
            "such as float32, or write an .ome.zarr"
        )
    if held != np.dtype(dtype):
        return f"{path}: {name} has no {dtype} that every program reads right: stored as {held}"
    return None


def omezarr_to_tiff(
    zarr_path: str | Path,
    tif_path: str | Path,
    tile_px: int,
    compress: bool = False,
    software: str = "emsr",
    progress: Progress = _unheard,
) -> None:
    """Write level 0 to an OME-TIFF in square tiles of ``tile_px`` (rounded up to 16).

    One tile is in memory at a time. InputError where the store is unfinished.
    """
    volume = open_zarr(Path(zarr_path), 0)
    side = -(-tile_px // _TILE_MULTIPLE) * _TILE_MULTIPLE
    boxes = blocks(volume.shape, (1, side, side))
    tiles = (volume.read(box)[0] for box in boxes)
    tiff.write_tiff_tiles(
        tif_path,
        _told(tiles, len(boxes), progress),
        volume.shape,
        volume.dtype,
        volume.spacing_nm,
        (side, side),
        compress,
        software,
    )


def _told(parts: Iterable[Part], count: int, progress: Progress) -> Iterator[Part]:
    for done, part in enumerate(parts, 1):
        yield part
        progress(done, count)
