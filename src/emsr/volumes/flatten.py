"""A finished OME-Zarr store as one OME-TIFF, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emsr.geometry.box import blocks
from emsr.volumes.tiff import write_tiff_tiles
from emsr.volumes.volume import Volume
from emsr.volumes.zarrs import open_zarr

_TILE_MULTIPLE = 16  # TIFF wants tile sides in multiples of it


def omezarr_to_tiff(
    zarr_path: str | Path,
    tif_path: str | Path,
    tile_px: int,
    compress: bool = False,
    software: str = "emsr",
) -> None:
    """Write level 0 to an OME-TIFF in square tiles of ``tile_px`` (rounded up to 16).

    One tile is in memory at a time. InputError where the store is unfinished.
    """
    volume = open_zarr(Path(zarr_path), 0)
    side = -(-tile_px // _TILE_MULTIPLE) * _TILE_MULTIPLE
    write_tiff_tiles(
        tif_path,
        _tiles(volume, side),
        volume.shape,
        volume.dtype,
        volume.spacing_nm,
        (side, side),
        compress,
        software,
    )


def _tiles(volume: Volume, side: int) -> Iterator[np.ndarray]:
    return (volume.read(box)[0] for box in blocks(volume.shape, (1, side, side)))
