"""Myelin: the sheath between a fibre's outer wall and its axon.

Compact myelin repeats every 12 nm or so: resolved in fine scans only; coarser ones show a dark
band with the splits and blisters of fixed tissue.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emsr.microscope.smooth_field import Field, Grid, SmoothField
from emsr.microscope.walls import Walls, cover, ramp, sheet

PERIOD_NM = 12.5
CORNER_NM = 35.0
SPLITS = (0.22, 0.42, 0.6, 0.8)
"""Depths, as shares of the sheath, at which its lamellae part here and there."""


def inner_walls(cells: Walls, thickness_nm: Field, grid: Grid) -> Walls:
    """The same cells seen from inside the sheath: ``depth`` below the axon's own membrane, which
    lies ``thickness_nm`` under the fibre's wall; cells without myelin stay as they are."""
    sheathed = (thickness_nm > 0) & (cells.depth > 0)
    outer = _rounded(_depth(sheathed, cells, grid), grid)
    depth = np.where(thickness_nm > 0, outer - thickness_nm, cells.depth)
    return Walls(depth, cells.tilt, cells.owner, cells.neighbour)


def paint(
    stain: Field,
    axon: Walls,
    thickness_nm: Field,
    field: Callable[[int, float, float], SmoothField],
    z_nm: float,
    grid: Grid,
) -> None:
    """Paint sheath, periaxonal space and axon membrane; ``axon`` as ``inner_walls`` gives it."""
    sheathed = thickness_nm > 0
    depth = axon.depth + thickness_nm
    tongue = 70 * ramp(field(60, 900, 330).at(z_nm, grid), 1.1, 1.9)
    inside = axon.depth - tongue
    solid = sheathed * ramp(depth, 0, 8) * ramp(-axon.depth, -4, 4)
    waves = 7 * field(61, 700, 260).at(z_nm, grid)
    cover(stain, solid, _lamellae(depth + waves, field, z_nm, grid))
    _part_lamellae(
        stain, solid, (depth + waves) / np.maximum(thickness_nm, 1), thickness_nm, field, z_nm, grid
    )
    cytoplasm = sheathed * ramp(axon.depth, 0, 6) * ramp(-inside, -12, -6)
    cover(stain, cytoplasm, 0.2)
    cover(stain, 0.8 * sheathed * sheet(inside - 16, 0.2, 5.0), 0.75)


def _lamellae(
    depth_nm: Field, field: Callable[[int, float, float], SmoothField], z_nm: float, grid: Grid
) -> Field:
    """Stain of compact myelin; the major dense lines fade where the grid cannot carry them."""
    pixel = float(grid.y_nm[1] - grid.y_nm[0])
    seen = np.exp(-2 * (np.pi * 0.45 * pixel / PERIOD_NM) ** 2) if pixel < PERIOD_NM / 2 else 0.0
    lines = 0.22 * seen * np.cos(2 * np.pi / PERIOD_NM * depth_nm)
    patchy = 0.05 * ramp(field(63, 400, 200).at(z_nm, grid), 0, 1.5)
    coarse = patchy * np.cos(depth_nm / 8 + 3 * field(62, 600, 350).at(z_nm, grid))
    uneven = 0.035 * field(68, 900, 600).at(z_nm, grid)
    return 0.83 - 0.1 * seen + lines + coarse - patchy + uneven


def _part_lamellae(
    stain: Field,
    solid: Field,
    share: Field,
    thickness_nm: Field,
    field: Callable[[int, float, float], SmoothField],
    z_nm: float,
    grid: Grid,
) -> None:
    """Splits: pale lines along the lamellae; where widest, blisters."""
    for i, place in enumerate(SPLITS):
        loose = field(64 + i, 900, 300).at(z_nm, grid)
        half = 8 * ramp(loose, 0.9, 1.6) + 38 * ramp(loose, 2.1, 3.2)
        off = np.abs(share - place) * thickness_nm
        cover(stain, 0.75 * solid * ramp(half - off, -5, 5) * ramp(loose, 0.8, 1.3), 0.32)


def _depth(mask: NDArray[np.bool_], cells: Walls, grid: Grid) -> Field:
    """Distance in nm to the nearest point outside the mask or of another owner, smoothed over a
    pixel."""
    inside = mask.copy()
    for axis in (0, 1):
        other = np.diff(cells.owner, axis=axis) != 0
        pad = [(0, 0), (0, 0)]
        pad[axis] = (0, 1)
        inside &= ~np.pad(other, pad)
    pixel = tuple(float(a[1] - a[0]) for a in (grid.y_nm, grid.x_nm))
    distance = ndimage.distance_transform_edt(inside, sampling=pixel).astype(np.float32)
    return ndimage.uniform_filter(distance, 3, mode="nearest")


def _rounded(distance: Field, grid: Grid) -> Field:
    """The distance with its ridges smoothed: sheaths have no sharp inner corners."""
    pixel = [float(a[1] - a[0]) for a in (grid.y_nm, grid.x_nm)]
    smooth = ndimage.gaussian_filter(distance, [CORNER_NM / p for p in pixel], truncate=2.5)
    return distance + ramp(distance, 10, 60) * (smooth - distance)
