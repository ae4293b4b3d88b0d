"""TIFF, BigTIFF, OME-TIFF and ImageJ TIFF: read by box, written as OME-TIFF plane by plane.

Knows TIFF's pages, strips and tags. Refuses colour, time and channels: a volume is one grey
channel on (z, y, x).
"""

from __future__ import annotations

import logging
import math
import re
import uuid
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from emsr.errors import InputError
from emsr.files import replacing
from emsr.geometry.box import Box, Triple
from emsr.volumes.spacing import Spacing, Stated, complete, level_factor
from emsr.volumes.tiff_damage import (
    refuse_broken_chain,
    refuse_lost_description,
    refuse_missing_pages,
)
from emsr.volumes.tiff_spacing import not_positive, stated_nm
from emsr.volumes.volume import (
    Fetch,
    StoredVolume,
    checked_dtype,
    checked_shape,
    mapped,
    no_level,
)

# tifffile logs what it finds wrong in a file; we say it once, as an InputError
logging.getLogger("tifffile").addHandler(logging.NullHandler())

HOLDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""The dtypes of OME-TIFF."""
_CLASSIC_LIMIT_BYTES = 2**32 - 2**25  # leaves room for the description
_PAGE_BYTES, _TILE_BYTES = 512, 16  # a page's directory, and its entries for a tile
_BUFFER_BYTES = 2**24  # what waits to be compressed
_UNNAMED_Z = "ZQI"  # axes that tifffile gives to the pages of a plain stack


def write_tiff(
    path: str | Path,
    planes: Iterable[np.ndarray],
    shape: Triple,
    dtype: np.dtype | type | str,
    spacing_nm: Spacing,
    compress: bool = False,
    software: str = "emsr",
) -> None:
    """Write (y, x) ``planes`` in the order of z as an OME-TIFF, one plane in memory at a time.

    The same planes give the same bytes: no time stamp, no random identifier. BigTIFF from 4 GB
    on; ``compress`` uses zlib; ``software`` (ASCII) says what made it. The file appears
    under its name only when it is complete. ValueError where the planes are not ``shape`` and
    ``dtype``.
    """
    dtype = np.dtype(dtype)
    checked = _checked(planes, shape[0], shape[1:], dtype)
    _write(path, checked, shape, dtype, spacing_nm, compress, software, tile_px=None)


def write_tiff_tiles(
    path: str | Path,
    tiles: Iterable[np.ndarray],
    shape: Triple,
    dtype: np.dtype | type | str,
    spacing_nm: Spacing,
    tile_px: tuple[int, int],
    compress: bool = False,
    software: str = "emsr",
) -> None:
    """As ``write_tiff``, from (y, x) tiles in the order z, y, x: planes too large for memory.

    Tiles at the far edges may be smaller. ``tile_px`` (y, x): multiples of 16.
    """
    _write(path, iter(tiles), shape, np.dtype(dtype), spacing_nm, compress, software, tile_px)


def _write(
    path: str | Path,
    segments: Iterator[np.ndarray],
    shape: Triple,
    dtype: np.dtype,
    spacing_nm: Spacing,
    compress: bool,
    software: str,
    tile_px: tuple[int, int] | None,
) -> None:
    if dtype.name not in HOLDS:
        raise InputError(f"{path}: OME-TIFF cannot hold values of type {dtype.name}")
    segments = chain(segments)  # a bare generator would be closed before its surplus is seen
    with replacing(path) as partial:
        tifffile.imwrite(
            partial,
            segments,
            shape=shape,
            dtype=dtype,
            byteorder="<",
            bigtiff=_file_bytes(shape, dtype, tile_px) >= _CLASSIC_LIMIT_BYTES,
            ome=True,
            photometric="minisblack",
            compression="zlib" if compress else None,
            tile=tile_px,
            software=software,
            buffersize=_BUFFER_BYTES,
            metadata=_ome_metadata(shape, dtype, spacing_nm),
        )
        if next(segments, None) is not None:
            raise ValueError(f"{path}: more grey values than {shape} were given")


def _file_bytes(shape: Triple, dtype: np.dtype, tile_px: tuple[int, int] | None) -> int:
    """The size of the file if nothing is compressed; tiles at the far edges are stored whole."""
    tiles = tuple(-(-n // t) for n, t in zip(shape[1:], tile_px or shape[1:], strict=True))
    plane = math.prod(tiles) * math.prod(tile_px or shape[1:]) * dtype.itemsize
    return shape[0] * (plane + _PAGE_BYTES + math.prod(tiles) * _TILE_BYTES)


def _ome_metadata(shape: Triple, dtype: np.dtype, spacing_nm: Spacing) -> dict[str, Any]:
    # OME wants an identifier; a random one would make equal files differ
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"emsr {shape} {dtype.name} {spacing_nm}")
    metadata: dict[str, Any] = {"axes": "ZYX", "UUID": str(identity), "Creator": "emsr"}
    if spacing_nm is not None:
        for axis, value in zip("ZYX", spacing_nm, strict=True):
            metadata |= {f"PhysicalSize{axis}": float(value), f"PhysicalSize{axis}Unit": "nm"}
    return metadata


def _checked(
    planes: Iterable[np.ndarray], depth: int, shape: tuple[int, int], dtype: np.dtype
) -> Iterator[np.ndarray]:
    count = 0
    for plane in planes:
        count += 1
        if plane.shape != shape or plane.dtype != dtype or count > depth:
            raise ValueError(
                f"plane {count}: {plane.shape} {plane.dtype}, expected {depth} of {shape} {dtype}"
            )
        yield np.ascontiguousarray(plane)
    if count != depth:
        raise ValueError(f"{count} planes, expected {depth}")


def software_of(path: str | Path) -> str | None:
    """What a TIFF says made it; None where it says nothing, or is no TIFF."""
    try:
        with tifffile.TiffFile(path) as tif:
            tag = tif.pages.first.tags.get("Software")
            return None if tag is None else str(tag.value)
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return None


def open_tiff(path: str | Path, level: int = 0) -> StoredVolume:
    """A TIFF as a volume; spacing from OME or ImageJ metadata, None where neither states it.

    ``level`` chooses from a pyramid (SubIFDs); its spacing is that of the whole times the factor.
    """
    volume, stated = open_tiff_stating(path, level)
    spacing_nm, notices = complete(stated, volume.shape[0], volume.name)
    return replace(volume, spacing_nm=spacing_nm, notices=volume.notices + notices)


def open_tiff_stating(path: str | Path, level: int = 0) -> tuple[StoredVolume, Stated]:
    """The volume without its spacing, and the spacing in nm that the file states axis by axis."""
    path = Path(path)
    name = str(path)
    try:
        tif = tifffile.TiffFile(path)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; give an existing image") from None
    except Exception as error:  # whatever a damaged header makes the parser raise
        raise _damaged(name, error) from error
    try:
        return _describe(tif, name, level)
    except InputError:
        tif.close()
        raise
    except Exception as error:
        tif.close()
        raise _damaged(name, error) from error


def _describe(tif: tifffile.TiffFile, name: str, level: int) -> tuple[StoredVolume, Stated]:
    refuse_broken_chain(tif, name)
    refuse_lost_description(tif, name)
    series = tif.series[0]
    if len(tif.series) > 1:
        found = ", ".join(str(s.shape) for s in tif.series[:4])
        raise InputError(
            f"{name} holds {len(tif.series)} images of shapes {found}: expected one; "
            "save them as one stack"
        )
    shapes = [_grey_shape(one, name) for one in series.levels]
    if level >= len(shapes):
        raise no_level(name, level, shapes)
    shape, series = shapes[level], series.levels[level]
    refuse_missing_pages(tif, series, name)
    _refuse_palette(tif, series, name)
    mapped_boxes = _mapped(tif, series, shape)
    chunk = None if mapped_boxes else _chunk(series.keyframe, shape)
    fetch = mapped_boxes or _decoded(tif, series)
    dtype = checked_dtype(series.dtype, name)
    inverted = series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    notices = (f"{name} shows its smallest values white; they are taken as they are",)
    said = (notices if inverted else ()) + not_positive(tif, name)
    volume = StoredVolume(name, shape, dtype, None, fetch, said, chunk=chunk)
    factors = (level_factor(n, m) for n, m in zip(shapes[0], shape, strict=True))
    z, y, x = (s and s * f for s, f in zip(stated_nm(tif), factors, strict=True))
    return volume, (z, y, x)


def _refuse_palette(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, name: str) -> None:
    """The values of a palette image are numbers of colours. ImageJ stores grey values with a table
    of colours for display: there they stay grey values."""
    page = series.keyframe
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or tif.is_imagej:
        return
    colours = np.zeros((3, 2)) if page.colormap is None else page.colormap
    ramp = np.linspace(0, 65535, colours.shape[1])
    if np.abs(colours - ramp).max() > 65535 / 255:
        raise InputError(
            f"{name} is a palette image, its values are numbers of colours: "
            "expected grey values; convert it to grey"
        )


def _grey_shape(series: tifffile.TiffPageSeries, name: str) -> Triple:
    """(z, y, x) of a series; every other axis must have length 1."""
    every = list(zip(series.axes, series.shape, strict=True))
    axes = [(axis, size) for axis, size in every if size > 1 or axis in "YX"]
    if not re.fullmatch(f"[{_UNNAMED_Z}]?YX", "".join(axis for axis, _ in axes)):
        found = ", ".join(f"{axis} {size}" for axis, size in every)
        colour = " (S: colour samples)" if "S" in dict(axes) else ""
        raise InputError(
            f"{name} has axes {found}{colour}: expected one grey channel with axes "
            "(y, x) or (z, y, x); save one channel and time point"
        )
    return checked_shape((1, *(size for _, size in axes))[-3:], name)


def _mapped(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, shape: Triple) -> Fetch | None:
    """Boxes through a memory map, where the grey values lie uncompressed in one piece."""
    if series.dataoffset is None:
        return None
    dtype = np.dtype(tif.byteorder + series.dtype.char)
    fetch = mapped(tif.filehandle.path, dtype, series.dataoffset, shape)
    tif.close()
    return fetch


def _chunk(page: Any, shape: Triple) -> Triple:
    """What is stored in one piece: a tile, or a strip, of one slice."""
    if page.is_tiled:
        return 1, min(page.tilelength, shape[1]), min(page.tilewidth, shape[2])
    return 1, min(page.rowsperstrip, shape[1]), shape[2]


def _decoded(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Fetch:
    """Boxes decoded from the strips or tiles that they touch."""
    # the store locks the file: threads may read at once
    array = zarr.open_array(series.aszarr(level=0, squeeze=True), mode="r")
    axes = [axis for axis, size in zip(series.axes, series.shape, strict=True) if size > 1]

    def fetch(box: Box) -> np.ndarray:
        by_axis = dict(zip("ZYX", box.slices, strict=True))
        index = tuple(by_axis["Z" if a in _UNNAMED_Z else a] for a in axes)
        return np.asarray(array[index]).reshape(box.shape)

    weakref.finalize(fetch, tif.close)
    return fetch


def _damaged(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{name} cannot be read as TIFF: {reason}; copy or export it again")
