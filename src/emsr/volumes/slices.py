"""2-D images as volumes: a single PNG, or a folder whose PNG or TIFF files are the slices.

Slices are ordered by the numbers in their names, must agree in shape and dtype, and are decoded
one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.volumes.png import decode_png, read_png_header
from emsr.volumes.spacing import Stated, complete
from emsr.volumes.tiff import open_tiff_stating
from emsr.volumes.volume import StoredVolume, checked_dtype, checked_shape

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
PNG_SUFFIXES = (".png",)
_NUMBER = re.compile(r"([0-9]+)")
_UNSTATED: Stated = (None, None, None)


def open_png(path: Path) -> StoredVolume:
    """A PNG as a volume of one slice; its spacing is unknown (PNG states none of use)."""
    header = read_png_header(path)
    plane = lru_cache(maxsize=1)(lambda: decode_png(path))
    notices: tuple[str, ...] = ()
    if header.alpha:
        plane()
        notices = (f"{path} has an alpha channel, opaque everywhere: it is left out",)
    shape = checked_shape((1, *header.shape), str(path))
    return StoredVolume(
        str(path),
        shape,
        header.dtype,
        None,
        lambda box: plane()[None][box.slices],
        notices,
    )


def open_slices(folder: Path) -> StoredVolume:
    """The PNG and TIFF files of a folder, in natural order, as the slices of one volume.

    InputError where there is none, or where shapes or dtypes differ (both files are named).
    """
    paths = sorted((p for p in folder.iterdir() if _is_slice(p)), key=lambda p: natural_key(p.name))
    if not paths:
        raise InputError(f"{folder} holds no images: expected a folder of PNG or TIFF slices")
    shape, dtype, stated = _described(paths[0])
    for path in paths[1:]:
        other_shape, other_dtype, _ = _described(path)
        if (other_shape, other_dtype) != (shape, dtype):
            raise InputError(
                f"slices differ: {paths[0]} is {shape} {dtype}, {path} is {other_shape} "
                f"{other_dtype}; expected slices of one shape and type"
            )
    spacing_nm, notices = complete(stated, len(paths), str(folder))
    return StoredVolume(
        str(folder),
        (len(paths), *shape),
        dtype,
        spacing_nm,
        _stacked(paths),
        notices + _missing(folder, [p.stem for p in paths]),
    )


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts ``z2`` before ``z10``: runs of digits count as numbers."""
    parts = _NUMBER.split(name.lower())
    return [(int(p), "") if i % 2 else (0, p) for i, p in enumerate(parts)]


def _is_slice(path: Path) -> bool:
    suffixes = TIFF_SUFFIXES + PNG_SUFFIXES
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def _described(path: Path) -> tuple[tuple[int, int], np.dtype, Stated]:
    """(y, x), dtype and stated spacing of one slice."""
    if path.suffix.lower() in PNG_SUFFIXES:
        header = read_png_header(path)
        return header.shape, header.dtype, _UNSTATED
    volume, stated = open_tiff_stating(path)
    if volume.shape[0] != 1:
        raise InputError(
            f"{path} holds {volume.shape[0]} planes: expected one slice a file; "
            "give the file itself instead of its folder"
        )
    return volume.shape[1:], checked_dtype(volume.dtype, str(path)), stated


def _stacked(paths: list[Path]) -> Callable[[Box], np.ndarray]:
    plane = lru_cache(maxsize=1)(lambda z: decode_png(paths[z]))

    def cut(z: int, box: Box) -> np.ndarray:
        _, rows, columns = box.slices
        if paths[z].suffix.lower() in PNG_SUFFIXES:
            return plane(z)[rows, columns]
        one = Box((0, *box.start[1:]), (1, *box.stop[1:]))
        return open_tiff_stating(paths[z])[0].read(one)[0]

    return lambda box: np.stack([cut(z, box) for z in range(box.start[0], box.stop[0])])


def _missing(folder: Path, stems: list[str]) -> tuple[str, ...]:
    """What to say where the one number that differs between the names skips some values."""
    found = _sequence(stems)
    gaps = [(a + 1, b - 1) for a, b in pairwise(found) if b > a + 1]
    if not gaps or len({b - a for a, b in pairwise(found)}) == 1:
        return ()  # every tenth slice is a sampling, not a loss
    named = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in gaps[:8])
    more = ", ..." if len(gaps) > 8 else ""
    return (f"{folder}: numbers missing from the sequence of slices: {named}{more}",)


def _sequence(stems: list[str]) -> list[int]:
    """The numbers of the slices in order; empty where the names are not one numbered series."""
    columns = set(zip(*(_NUMBER.split(stem)[1::2] for stem in stems), strict=False))
    shapes = {tuple(_NUMBER.split(stem)[::2]) for stem in stems}
    varying = [column for column in columns if len(set(column)) > 1]
    if len(shapes) != 1 or len(varying) != 1:
        return []
    return sorted({int(number) for number in varying[0]})
