"""What a strategy is given and what it gives back, and how scans are read for it.

Knows what every strategy asks of a scan (finite values, a field that is large enough) and keeps
account of what was read. Knows no strategy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box, Triple
from emsr.pairs.store import Facts, SlicePair
from emsr.recipe import Degradation, Denoising, Splitting
from emsr.volumes.intensity import Intensity, fit_window
from emsr.volumes.volume import Volume, iterate_slices

SMALLEST_SIDE_PX = 64
"""LR pixels; below, training and validation fields have no room for patches."""
WINDOW_SLICES = 32


@dataclass(frozen=True)
class Request:
    """The scans and wishes a strategy works from."""

    hr: Volume
    lr: Volume | None
    scale: int | None
    """None where it is to be read off the scans' shapes."""
    degradation: Degradation
    seed: int
    repeat: Volume | None = None
    """A second HR scan of the field, on the same grid."""
    calibrate: Volume | None = None
    """An LR scan that synthetic ones are to resemble, of the same field or another."""
    noise_sigma: float | None = None
    """Standard deviation of HR's noise in grey levels where the user knows it; else estimated."""
    denoising: Denoising = field(default_factory=Denoising)
    splitting: Splitting = field(default_factory=Splitting)
    tick: Callable[[int, int], None] = lambda _done, _total: None
    """Called after each slice measured."""


@dataclass(frozen=True)
class Prepared:
    """Pairs that are ready to be written, slice by slice."""

    facts: Facts
    slices: Iterable[SlicePair]
    lr_shape: Triple
    lr_dtype: np.dtype
    hr_shape: Triple
    hr_array_dtype: np.dtype
    """Of the stored targets: float32 where a strategy computes them, else the scan's."""
    refused: int
    """Slices (z) that were left out."""
    remarks: tuple[str, ...]
    """What the user should hear beside the warnings in ``facts``."""
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    """To look at, by name: 8-bit (y, x) images that are written into the folder of the pairs."""


def checked_slices(volume: Volume, digest: Any) -> Iterator[np.ndarray]:
    """The (y, x) planes in order of z; ``digest`` is fed their bytes (little-endian, row by row).
    InputError at the first plane that holds NaN or infinity."""
    for z, plane in enumerate(iterate_slices(volume)):
        if not np.isfinite(plane).all():
            count = int(np.count_nonzero(~np.isfinite(plane)))
            raise InputError(
                f"{volume.name}: slice {z} holds {count} values that are NaN or infinite, every "
                f"value must be a number: mask or cut them"
            )
        digest.update(plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes())
        yield plane


def read_slice(volume: Volume, z: int) -> np.ndarray:
    """Plane (y, x) of the volume at ``z``."""
    return volume.read(Box((z, 0, 0), (z + 1, *volume.shape[1:])))[0]


def new_digest() -> Any:
    """An empty account of what is read."""
    return hashlib.sha256()


def provenance(volume: Volume, role: str, digest: Any) -> dict[str, Any]:
    """Which scan it was, independent of where it lay: base name, grid, and the sha256 of its
    decoded values (so the same scan in another file format is recognised)."""
    return {
        "role": role,
        "name": PurePath(volume.name).name,
        "shape": list(volume.shape),
        "dtype": np.dtype(volume.dtype).name,
        "spacing_nm": None if volume.spacing_nm is None else list(volume.spacing_nm),
        "sha256": digest.hexdigest(),
    }


def grey_window(volume: Volume, slices: Sequence[int]) -> Intensity:
    """The grey window of a scan: that of at most 32 of its ``slices``, evenly spread."""
    spread = sorted({slices[k * len(slices) // WINDOW_SLICES] for k in range(WINDOW_SLICES)})
    return fit_window((read_slice(volume, z) for z in spread), volume.dtype)


def seen_by(window: Intensity, gain: float, offset: float) -> Intensity:
    """The window of a scan whose grey levels are gain * those of ``window``'s scan + offset."""
    return Intensity(gain * window.low + offset, gain * window.high + offset)


def check_field(lr_shape: tuple[int, ...], name: str) -> None:
    """InputError where an LR slice is too small to train on."""
    y, x = lr_shape[-2:]
    if min(y, x) < SMALLEST_SIDE_PX:
        raise InputError(
            f"{name}: LR slices are {y} x {x} pixels, pairs need at least "
            f"{SMALLEST_SIDE_PX} x {SMALLEST_SIDE_PX}: take a larger field"
        )
