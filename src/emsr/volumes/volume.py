"""What a volume is: named grey values on a (z, y, x) grid that are read box by box.

Knows nothing of file formats: a reader hands in a function that fetches a box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box, Triple
from emsr.volumes.spacing import Spacing

READABLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


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
    """A volume whose boxes are fetched from a file (or an array) when they are read."""

    name: str
    shape: Triple
    dtype: np.dtype
    spacing_nm: Spacing
    fetch: Callable[[Box], np.ndarray] = field(repr=False, compare=False)
    """Gives the values of a box that lies inside the volume, as a (z, y, x) array."""
    notices: tuple[str, ...] = ()
    """What the user should hear about the input (missing slices, assumed spacing)."""

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
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self.name} cannot be read at {box.start} to {box.stop}: {reason}; "
                "the file is damaged: copy or export it again"
            ) from error
        return np.array(values, dtype=self.dtype, order="C")


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


def checked_dtype(dtype: np.dtype, name: str) -> np.dtype:
    """The native-endian dtype; InputError where it does not hold grey values."""
    native = np.dtype(dtype).newbyteorder("=")
    if native.name not in READABLE:
        raise InputError(
            f"{name} holds values of type {native.name}: expected grey values "
            "(8, 16 or 32-bit integers, or floats); convert it"
        )
    return native


def checked_shape(shape: tuple[int, ...], name: str) -> Triple:
    """Three extents of at least one voxel."""
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{name} has shape {shape}: expected at least one voxel along z, y and x")
    z, y, x = (int(n) for n in shape)
    return z, y, x
