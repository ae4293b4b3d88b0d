"""The levels of an image pyramid: their shapes and places, and the averages they are made of.

Arrays and integers only; knows nothing of stores.

    level k    |  0  |  1  |  2  |  3  |  4  |     voxels along one axis, step 2
    level k+1  |     0     |     1     |  2  |     the last one averages what is there
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emsr.geometry.box import Box, Triple
from emsr.volumes.spacing import Spacing


@dataclass(frozen=True)
class Level:
    """One level: its shape, and how many voxels of level 0 one voxel spans along each axis."""

    shape: Triple
    factor: Triple


def downsample_plan(shape: Triple, spacing_nm: Spacing, coarsest_px: int) -> list[Level]:
    """Level 0 and on, until y and x are at most ``coarsest_px``.

    y and x are halved each time; z too, once the in-plane spacing has caught up with that of z,
    so that voxels tend to cubes. With an unknown spacing z is left alone.
    """
    if coarsest_px < 1:
        raise ValueError(f"coarsest_px {coarsest_px}: expected at least 1")
    levels = [Level(shape, (1, 1, 1))]
    while max(levels[-1].shape[1:]) > coarsest_px:
        levels.append(_coarser(levels[-1], spacing_nm))
    return levels


def _coarser(level: Level, spacing_nm: Spacing) -> Level:
    step = 1
    if spacing_nm is not None and level.shape[0] > 1:
        z, y, x = (s * f for s, f in zip(spacing_nm, level.factor, strict=True))
        step = 2 if z <= min(y, x) else 1
    (depth, height, width), (fz, fy, fx) = level.shape, level.factor
    shape = (-(-depth // step), -(-height // 2), -(-width // 2))
    return Level(shape, (fz * step, fy * 2, fx * 2))


def finer_box(box: Box, step: Triple, finer_shape: Triple) -> Box:
    """The voxels of the level below that ``box`` averages."""
    z, y, x = (a * n for a, n in zip(box.start, step, strict=True))
    d, h, w = (e * n for e, n in zip(box.shape, step, strict=True))
    return _clipped((z, y, x), (d, h, w), finer_shape)


def block_mean(values: np.ndarray, step: Triple) -> np.ndarray:
    """Mean of each block of ``step`` voxels of a (z, y, x) array, in its dtype.

    A step is 1 or 2. Blocks that are cut off at the far edges average what there is. Integers are
    rounded half to even, so that no level drifts brighter or darker than the one below.
    """
    total = values.astype(_WIDER.get(values.dtype.name, np.float64))
    for axis, n in enumerate(step):
        if n == 2:
            total = _pairs(total, axis)
    doublings = step.count(2)
    if total.dtype.kind == "f":
        mean = total / 2**doublings
        return (np.rint(mean) if values.dtype.kind in "iu" else mean).astype(values.dtype)
    if doublings:
        total += (total >> doublings & 1) + (2 ** (doublings - 1) - 1)
    return (total >> doublings).astype(values.dtype)


_WIDER = {"uint8": np.uint16, "int8": np.int16, "uint16": np.uint32, "int16": np.int32}
"""In which the sum of eight voxels is exact."""


def _pairs(values: np.ndarray, axis: int) -> np.ndarray:
    """Sums of neighbours along ``axis``; the last of an odd number is taken twice."""
    along = np.moveaxis(values, axis, 0)
    even, odd = along[::2], along[1::2]
    total = even.copy()
    total[: len(odd)] += odd
    total[len(odd) :] += even[len(odd) :]
    return np.moveaxis(total, 0, axis)


def _clipped(start: Triple, extent: Triple, shape: Triple) -> Box:
    z, y, x = (min(a + e, n) for a, e, n in zip(start, extent, shape, strict=True))
    return Box(start, (z, y, x))
