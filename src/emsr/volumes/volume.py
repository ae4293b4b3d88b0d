"""What a volume is: named grey values on a (z, y, x) grid that are read box by box.

Knows nothing of file formats: a reader hands in a function that fetches a box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np

from emsr.errors import InputError
from emsr.files import is_url
from emsr.geometry.box import Box, Triple
from emsr.volumes.spacing import Spacing

Fetch = Callable[[Box], np.ndarray]
READABLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
_COLOURS = (3, 4)
_COLOUR_IMAGE_PX = 16  # a volume this deep and high is not three voxels wide


class Volume(Protocol):
    """Grey values on a grid; ``read`` gives a fresh native-endian (z, y, x) array of ``dtype``."""

    @property
    def shape(self) -> Triple: ...
    @property
    def spacing_nm(self) -> Spacing: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def name(self) -> str: ...
    def read(self, box: Box) -> np.ndarray: ...


@dataclass(frozen=True)
class StoredVolume:
    """A volume whose boxes are fetched from a file (or an array) when they are read.

    Several threads may read at once. For another process, open it anew from ``name``,
    ``spacing_nm`` and ``level``: that gives the same volume.
    """

    name: str
    shape: Triple
    dtype: np.dtype
    spacing_nm: Spacing
    fetch: Fetch = field(repr=False, compare=False)
    """Gives the values of a box that lies inside the volume, as a (z, y, x) array."""
    notices: tuple[str, ...] = ()
    """What the user should hear about the input (missing slices, assumed spacing)."""
    level: int = 0
    """Which level of a pyramid this is; 0 is the finest."""
    chunk: Triple | None = None
    """What the file stores in one piece, where that is known."""
    chunk_bytes: int | None = None
    """Of one, unpacked, where that is not ``chunk`` in ``dtype``: of a volume that is resampled."""

    def read(self, box: Box) -> np.ndarray:
        """The (z, y, x) values of ``box``, a fresh native-endian array.

        ValueError for a box that is not inside the volume; InputError where the file is damaged.
        """
        if any(a < 0 for a in box.start) or any(
            b > n for b, n in zip(box.stop, self.shape, strict=True)
        ):
            raise ValueError(f"{box} is not inside {self.name} of shape {self.shape}")
        try:
            values = self.fetch(box)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever they like on damaged bytes
            raise self._unreadable(box, error) from error
        return np.array(values, dtype=self.dtype, order="C")

    def _unreadable(self, box: Box, error: Exception) -> InputError:
        """What to say; the first chunk that cannot be read is looked for, one at a time."""
        where = f"{box.start} to {box.stop}"
        for chunk in _chunks(box, self.chunk, self.shape):
            try:
                self.fetch(chunk)
            except Exception as found:
                error, where = found, f"the chunk {chunk.start} to {chunk.stop}"
                break
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = (
            "the data are damaged or out of reach: try again, or copy them anew"
            if is_url(self.name)
            else "the file is damaged: copy or export it again"
        )
        return InputError(f"{self.name} cannot be read at {where}: {reason}; {remedy}")


def _chunks(box: Box, chunk: Triple | None, shape: Triple) -> Iterator[Box]:
    """The chunks that a box touches, clipped at the volume."""
    if chunk is None:
        return
    edges = zip(box.start, box.stop, chunk, strict=True)
    for z, y, x in product(*(range(a - a % c, b, c) for a, b, c in edges)):
        start = (z, y, x)
        ends = (min(a + c, n) for a, c, n in zip(start, chunk, shape, strict=True))
        stop_z, stop_y, stop_x = ends
        yield Box(start, (stop_z, stop_y, stop_x))


def mapped(path: str | Path, dtype: np.dtype, start_byte: int, shape: tuple[int, ...]) -> Fetch:
    """Boxes of an uncompressed (z, y, x) array that begins at ``start_byte`` of a file.

    The memory map lives as long as a read: the pages of one that stays would be counted as this
    process's memory, all of the file in the end.
    """

    def fetch(box: Box) -> np.ndarray:
        return np.array(np.memmap(path, dtype, "r", start_byte, shape)[box.slices])

    return fetch


def array_volume(array: np.ndarray, spacing_nm: Spacing, name: str) -> StoredVolume:
    """A (z, y, x) array, or a (y, x) one as a single slice, as a volume."""
    if array.ndim not in (2, 3):
        raise InputError(f"{name} has shape {array.shape}: expected axes (y, x) or (z, y, x)")
    stack = array[None] if array.ndim == 2 else array
    dtype = checked_dtype(stack.dtype, name)
    return StoredVolume(
        name, checked_shape(stack.shape, name), dtype, spacing_nm, lambda box: stack[box.slices]
    )


def with_spacing(volume: StoredVolume, spacing_nm: Spacing) -> StoredVolume:
    """The volume with the spacing the user gave; a contradiction with the file is noted."""
    if spacing_nm is None:
        return volume
    if not all(np.isfinite(value) and value > 0 for value in spacing_nm):
        raise InputError(f"spacing {spacing_nm} nm: expected three positive numbers z, y, x")
    of_spacing = f"{volume.name} states"
    notices = tuple(line for line in volume.notices if not line.startswith(of_spacing))
    stated = volume.spacing_nm
    if stated is not None and not np.allclose(stated, spacing_nm, rtol=1e-6):
        notices += (f"{volume.name} states a spacing of {stated} nm; {spacing_nm} nm was given",)
    return replace(volume, spacing_nm=spacing_nm, notices=notices)


def iterate_slices(volume: Volume) -> Iterator[np.ndarray]:
    """The (y, x) planes in the order of z, one in memory at a time."""
    depth, height, width = volume.shape
    for z in range(depth):
        yield volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]


def no_level(name: str, level: int, shapes: Sequence[tuple[int, ...]]) -> InputError:
    """What to say where a pyramid does not have the level asked for."""
    listed = ", ".join(f"{n} ({z} x {y} x {x})" for n, (z, y, x) in enumerate(shapes))
    if len(shapes) == 1:
        return InputError(f"{name} has no pyramid: there is no level {level}; take 0")
    return InputError(f"{name} has no level {level}: expected one of the levels {listed}")


def checked_dtype(dtype: np.dtype, name: str) -> np.dtype:
    """The native-endian dtype; InputError where it does not hold grey values."""
    native = np.dtype(dtype).newbyteorder("=")
    if native.name not in READABLE:
        kind = f"compound ({', '.join(native.names)})" if native.names else native.name
        raise InputError(
            f"{name} holds values of type {kind}: expected grey values "
            "(8, 16 or 32-bit integers, or floats); convert it"
        )
    return native


def checked_shape(shape: tuple[int, ...], name: str) -> Triple:
    """Three extents of at least one voxel; what looks like (y, x, colour) is refused."""
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{name} has shape {shape}: expected at least one voxel along z, y and x")
    z, y, x = (int(n) for n in shape)
    if x in _COLOURS and min(z, y) >= _COLOUR_IMAGE_PX:
        raise InputError(
            f"{name} has shape {shape}, which is that of a colour image with {x} channels: "
            "expected one grey channel on (y, x) or (z, y, x); convert it"
        )
    return z, y, x
